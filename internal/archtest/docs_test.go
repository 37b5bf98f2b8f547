package archtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/app"
	"gatehouse/internal/telemetry"
)

// TestDocsConfig holds docs/config.md to the settings the code declares.
func TestDocsConfig(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Settings

Generated from the code by ` + "`make generate`" + `; don't edit.

A setting has one name: ` + "`admin-listen`" + ` is the flag ` + "`--admin-listen`" + `, the variable
` + "`GATEHOUSE_ADMIN_LISTEN`" + ` and the key ` + "`admin-listen`" + ` of the YAML file that ` + "`--config`" + ` names. A flag
beats a variable, a variable the file, the file the default. Unknown names are errors. A variable that is empty
counts as not set. ` + "`gatehouse config`" + ` prints the effective values and where each came from.

| setting | default | what it is |
|---|---|---|
`)
	for _, s := range new(app.Config).Settings() {
		value := "none"
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		help := s.Help
		if s.Secret {
			help += "; secret: from a variable, a file named by `" + s.Env() + "_FILE`, or the settings file, never a flag"
		}
		if s.MayHoldPassword {
			help += "; one with a password comes from the variable or a file named by `" + s.Env() + "_FILE`, never a flag"
		}
		fmt.Fprintf(&b, "| `%s`<br>`%s` | %s | %s |\n", s.Name, s.Env(), value, strings.ReplaceAll(help, "|", `\|`))
	}
	golden(t, "docs/config.md", []byte(b.String()))
}

// described is a Registerer that keeps what the metrics say of themselves.
type described struct{ descs []*prometheus.Desc }

func (d *described) Register(c prometheus.Collector) error {
	found := make(chan *prometheus.Desc)
	go func() { c.Describe(found); close(found) }()
	for desc := range found {
		d.descs = append(d.descs, desc)
	}
	return nil
}

func (d *described) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = d.Register(c)
	}
}

func (d *described) Unregister(prometheus.Collector) bool { return false }

// descText is how client_golang prints a Desc, which has no other accessors.
var descText = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", (?:unit: "[^"]*", )?constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// TestDocsMetrics holds docs/metrics.md to the metrics the code registers,
// and their names to the field's rules.
func TestDocsMetrics(t *testing.T) {
	var d described
	telemetry.New(&d, "dev")
	var b strings.Builder
	b.WriteString(`# Metrics

Generated from the code by ` + "`make generate`" + `; don't edit.

Served at ` + "`/metrics`" + ` on the admin listener, beside the usual ` + "`go_…` and `process_…`" + ` of the Prometheus client.
Of a histogram there are ` + "`_bucket`, `_sum` and `_count`" + `.

| metric | labels | what it is |
|---|---|---|
`)
	ours := 0
	for _, desc := range d.descs {
		m := descText.FindStringSubmatch(desc.String())
		if m == nil {
			t.Fatalf("can't read %s", desc)
		}
		name, help := m[1], strings.ReplaceAll(m[2], `\"`, `"`)
		if !strings.HasPrefix(name, "gatehouse_") {
			continue
		}
		ours++
		if !regexp.MustCompile(`_(seconds|total|bytes|info|jobs|nodes|events|connections|differs)$`).MatchString(name) {
			t.Errorf("%s: a metric's name ends with its unit or _total", name)
		}
		if !strings.HasSuffix(help, ".") {
			t.Errorf("%s: its help should be a sentence", name)
		}
		var labels []string
		for part := range strings.SplitSeq(m[3], ",") {
			if label, _, ok := strings.Cut(part, "="); ok {
				labels = append(labels, "`"+strings.TrimSpace(label)+"`")
			}
		}
		for label := range strings.SplitSeq(m[4], ",") {
			if label != "" {
				labels = append(labels, "`"+label+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, strings.Join(labels, " "), help)
	}
	if ours == 0 {
		t.Error("no metric was found")
	}
	golden(t, "docs/metrics.md", []byte(b.String()))
}

// TestDocsWorkflow checks that the workflow to copy can be read.
func TestDocsWorkflow(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/github-actions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	workflow, _, _ := strings.Cut(rest, "```")
	var in struct {
		Jobs map[string]struct {
			Steps []map[string]any `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal([]byte(workflow), &in); err != nil || len(in.Jobs["fix"].Steps) != 4 {
		t.Errorf("%v: %v", in, err)
	}
}

// codeGiven is where an error is given its code.
var codeGiven = regexp.MustCompile(`\b[cC]ode(?::| :?=) *"([A-Z_]+)"`)

// TestOpenAPICodes holds the document's list of codes to those that are answered,
// the gateway's too.
func TestOpenAPICodes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "internal/api/openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "description: 'For programs.")
	_, rest, _ = strings.Cut(rest, "enum:\n")
	var listed []string
	for line := range strings.Lines(rest) {
		code, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok {
			break
		}
		listed = append(listed, code)
	}
	tree := os.DirFS(root)
	names, err := goSources(tree)
	if err != nil {
		t.Fatal(err)
	}
	var answered []string
	for _, name := range names {
		if !strings.HasPrefix(name, "internal/") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range codeGiven.FindAllStringSubmatch(string(source), -1) {
			answered = append(answered, m[1])
			if !slices.Contains(listed, m[1]) {
				t.Errorf("%s answers %s, which openapi.yaml does not list", name, m[1])
			}
		}
	}
	if len(answered) < len(listed) {
		t.Errorf("only %d answers with a code were found", len(answered))
	}
}
