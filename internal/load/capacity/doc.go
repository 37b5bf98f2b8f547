// Package capacity finds the highest rate at which a plan's gates hold.
//
// It exists because one run answers for one rate alone, and nobody knows from it
// how far away the rate is at which the target gives in. So it tries rates:
// twice as much until one does not hold, then between the two until they are
// near, and then the answer again, for longer, three times.
//
// Beyond its capacity an open loop measures its own backlog, and the longer it
// does, the worse the figures are: they say nothing of how far beyond it was. So
// the only thing taken from a rate is whether it held. It did when the gates did
// and the target kept up: nearly all was answered, and what waits did not grow.
//
// [Search] is pure: it tries rates through a function, so that tests give it
// targets that are invented. It fits no model to what it found, and compares with
// nothing.
package capacity
