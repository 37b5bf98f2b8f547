package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load/report"
)

const (
	maxSummary = 64 << 20 // bytes: some witnesses of the largest limit
	maxTime    = 1e12     // milliseconds of a witness: 30 years
)

// Read reads a verification's summary from its folder. Nothing is judged again.
func Read(dir string) (*Summary, error) {
	name := filepath.Join(dir, "summary.json")
	text, err := report.ReadBounded(name, maxSummary)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no verification ended there: %w", err)
	}
	if err != nil {
		return nil, err
	}
	s := &Summary{}
	if err := s.parse(text); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return s, nil
}

func (s *Summary) parse(text []byte) error {
	err := json.Unmarshal(text, s)
	if s.Schema != Schema && (err == nil || s.Schema != "") { // what is of another kind may have other fields
		return fmt.Errorf("its schema is %.40q, want %q, as load verify writes it", s.Schema, Schema)
	}
	if err != nil {
		return err
	}
	if slices.Contains(s.Policies, nil) || slices.Contains(s.NotVerified, nil) {
		return errors.New("a policy in it is null")
	}
	verdicts := []Verdict{s.Verdict}
	for _, t := range s.Policies {
		verdicts = append(verdicts, t.Verdict)
		for _, f := range t.Findings {
			verdicts = append(verdicts, f.Verdict)
			if slices.Contains(f.Witness, nil) {
				return fmt.Errorf("a witness of %.40q is null", f.Property)
			}
		}
	}
	for _, v := range verdicts {
		if AsGate(v) == "" {
			return fmt.Errorf("a verdict in it is %.40q, want proved, violated or undecidable", v)
		}
	}
	return nil
}

// witness is an attempt as summary.json has it.
type witness struct {
	Request    int     `json:"request"`
	Phase      phase   `json:"phase"`
	Target     int     `json:"target"`       // counted from 0
	Key        int     `json:"key,omitzero"` // counted from 1
	Spoofed    bool    `json:"spoofed"`
	Sent       float64 `json:"sent_ms"` // since the first
	Received   float64 `json:"received_ms"`
	Status     int     `json:"status"`
	Outcome    Outcome `json:"outcome"`
	Code       string  `json:"code,omitzero"`
	Limit      int     `json:"limit"` // -1: none, likewise below
	Remaining  int     `json:"remaining"`
	RetryAfter int     `json:"retry_after"`
	Error      string  `json:"error,omitzero"`
}

// MarshalJSON writes a witness.
func (a *Attempt) MarshalJSON() ([]byte, error) {
	return json.Marshal(witness{a.N, a.Phase, a.Target, a.Key, a.Spoofed, milliseconds(a.Sent), milliseconds(a.Received), a.Status, a.Outcome, a.Code, a.Limit, a.Remaining, a.RetryAfter, a.Err})
}

// UnmarshalJSON reads a witness, of which no more is known.
func (a *Attempt) UnmarshalJSON(text []byte) error {
	var w witness
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	if math.Abs(w.Sent) > maxTime || math.Abs(w.Received) > maxTime {
		return fmt.Errorf("request %d was sent at %g ms and answered at %g ms: no such time", w.Request, w.Sent, w.Received)
	}
	*a = Attempt{
		Ask: Ask{N: w.Request, Target: w.Target, Key: w.Key, Spoofed: w.Spoofed}, Phase: w.Phase, Sent: microseconds(w.Sent), Received: microseconds(w.Received), Outcome: w.Outcome, Err: w.Error,
		Answer: Answer{Status: w.Status, Code: w.Code, Limit: w.Limit, Remaining: w.Remaining, RetryAfter: w.RetryAfter},
	}
	return nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// microseconds is the time that milliseconds gave, to one.
func microseconds(ms float64) time.Duration {
	return time.Duration(math.Round(ms*1e3)) * time.Microsecond
}
