// Package foreign reads the summaries of other load tools, k6 and vegeta, as if
// a run of ours had written them.
//
// It exists because teams have such figures and want to be compared with them.
// They know less than a run of ours: no distribution, seldom a p99, and k6 not
// even a status. So each is graded as it is read: what it can't show stands in
// its notes, and one without evidence of a success is inconclusive, whatever its
// own thresholds said. It guesses nothing, and refuses what contradicts itself.
package foreign
