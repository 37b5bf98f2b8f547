package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/load/gate"
)

type junitSuites struct {
	XMLName xml.Name   `xml:"testsuites"`
	Suite   junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Time      string      `xml:"time,attr"` // seconds
	Timestamp string      `xml:"timestamp,attr"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string      `xml:"name,attr"`
	ClassName string      `xml:"classname,attr"`
	Failure   *junitFault `xml:"failure"`
	Error     *junitFault `xml:"error"`
	Output    string      `xml:"system-out,omitempty"`
}

// junitFault has its numbers in the body: some readers show nothing else.
type junitFault struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Body    string `xml:",chardata"`
}

// JUnit writes each check as a test case, and one of the name "verdict" for
// the run. What failed is a failure; what could not be told is an error, never
// skipped, since CI takes that for well.
func JUnit(w io.Writer, r *Run) error {
	suite := junitSuite{
		Name:      "load run " + r.Plan,
		Time:      strconv.FormatFloat(round(r.Result.Elapsed.Seconds()), 'f', -1, 64),
		Timestamp: r.Result.Started.UTC().Format(time.RFC3339),
	}
	add := func(name string, verdict gate.Verdict, message, body string) {
		c := junitCase{Name: name, ClassName: "gatehouse.load." + r.Plan}
		fault := &junitFault{Message: message, Type: string(verdict), Body: body}
		switch verdict {
		case gate.Pass:
			c.Output = body
		case gate.Fail:
			c.Failure = fault
			suite.Failures++
		default:
			c.Error = fault
			suite.Errors++
		}
		suite.Cases = append(suite.Cases, c)
		suite.Tests++
	}
	add("verdict", r.Verdict, Headline(r), Headline(r)+"\n"+strings.Join(r.Reasons, "\n"))
	for _, c := range r.Checks {
		body := fmt.Sprintf("expression: %s\nobserved: %s\nverdict: %s\n", c.Expression, known(c.Unit, c.Observed), c.Verdict)
		if c.Why != "" {
			body += "why: " + c.Why + "\n"
		}
		add(c.Name, c.Verdict, c.Name+": observed "+known(c.Unit, c.Observed), body)
	}
	data, err := xml.MarshalIndent(junitSuites{Suite: suite}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}
