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

// Suite is a JUnit file in the making.
type Suite struct{ junitSuite }

// NewSuite begins one for something that took so long.
func NewSuite(name string, started time.Time, took time.Duration) *Suite {
	return &Suite{junitSuite{
		Name: name, Time: strconv.FormatFloat(round(took.Seconds()), 'f', -1, 64), Timestamp: started.UTC().Format(time.RFC3339),
	}}
}

// Add adds a test case. What failed is a failure; what could not be told is an
// error, never skipped, since CI takes that for well.
func (s *Suite) Add(name, class string, verdict gate.Verdict, message, body string) {
	c := junitCase{Name: name, ClassName: class}
	fault := &junitFault{Message: message, Type: string(verdict), Body: body}
	switch verdict {
	case gate.Pass:
		c.Output = body
	case gate.Fail:
		c.Failure = fault
		s.Failures++
	default:
		c.Error = fault
		s.Errors++
	}
	s.Cases = append(s.Cases, c)
	s.Tests++
}

// Write writes it.
func (s *Suite) Write(w io.Writer) error {
	data, err := xml.MarshalIndent(junitSuites{Suite: s.junitSuite}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, data)
	return err
}

// JUnit writes each check as a test case, and one of the name "verdict" for
// the run.
func JUnit(w io.Writer, r *Summary) error {
	s, class := NewSuite("load run "+r.Plan, r.StartedAt, duration(r.DurationSeconds)), "gatehouse.load."+r.Plan
	s.Add("verdict", class, r.Verdict, Headline(r), Headline(r)+"\n"+strings.Join(r.Reasons, "\n"))
	for _, c := range r.Gates {
		body := fmt.Sprintf("expression: %s\nobserved: %s\nverdict: %s\n", c.Expression, known(c.Unit, c.Observed), c.Verdict)
		if c.Why != "" {
			body += "why: " + c.Why + "\n"
		}
		s.Add(c.Name, class, c.Verdict, c.Name+": observed "+known(c.Unit, c.Observed), body)
	}
	return s.Write(w)
}
