package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/load/verify"
)

// proved holds a verification's folder against what must be shown of each of
// these policies, whatever was killed meanwhile: that somebody was let in and
// somebody refused, and that never more were let in than the limit, over all
// nodes. How long refused ones were to wait may be undecidable.
func proved(dir, policies string) error {
	s, err := verify.Read(dir)
	if err != nil {
		return err
	}
	properties := []string{"never more than the limit in any window"}
	if len(s.Targets) > 1 {
		properties = append(properties, "one limit over all targets")
	}
	var errs []error
	for name := range strings.SplitSeq(policies, ",") {
		i := slices.IndexFunc(s.Policies, func(t *verify.Trial) bool { return t.Policy == name })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s was not verified", name))
			continue
		}
		t := s.Policies[i]
		if t.Admitted == 0 || t.Denied == 0 {
			errs = append(errs, fmt.Errorf("%s: %d were admitted and %d denied, which shows no limit", name, t.Admitted, t.Denied))
		}
		for _, property := range properties {
			shown := verify.Finding{Verdict: "not judged"}
			if at := slices.IndexFunc(t.Findings, func(f verify.Finding) bool { return f.Property == property }); at >= 0 {
				shown = t.Findings[at]
			}
			if shown.Verdict != verify.Proved {
				errs = append(errs, fmt.Errorf("%s: %q is %s: %s", name, property, shown.Verdict, shown.Why))
			}
		}
	}
	return errors.Join(errs...)
}
