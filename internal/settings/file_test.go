package settings_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatehouse/internal/settings"
)

func TestFileHoldsNamesAndPlainValues(t *testing.T) {
	tests := []struct{ name, text, want string }{ // want is of mode
		{"plain", "mode: test\n", "test"},
		{"with a comment", "# a node\nmode: test # for now\n", "test"},
		{"as a document", "---\nmode: test\n...\n", "test"},
		{"without a line end", "mode: test", "test"},
		{"line ends of Windows", "listen: a\r\nmode: test\r\n", "test"},
		{"quoted", "\"mode\": 'test'\n", "test"},
		{"quoted, with an escape", "mode: \"te\\u0073t\"\n", "test"},
		{"in braces", "{listen: a, mode: test}", "test"},
		{"a tab between", "mode:\ttest\n", "test"},
		{"with colons", "mode: 127.0.0.1:8080\n", "127.0.0.1:8080"},
		{"a block", "mode: |-\n  a\n  b\n", "a\nb"},
		{"a number", "mode: 10\n", "10"},
		{"a number with zeros", "mode: 0010\n", "0010"},
		{"a number with a point", "mode: 1.50\n", "1.50"},
		{"a number as hexadecimal", "mode: 0x1F\n", "0x1F"},
		{"a number with underscores", "mode: 1_000\n", "1_000"},
		{"a great number", "mode: 123456789012345678901234567890\n", "123456789012345678901234567890"},
		{"true", "mode: true\n", "true"},
		{"yes", "mode: yes\n", "yes"},
		{"a day", "mode: 2026-03-01\n", "2026-03-01"},
		{"null", "mode: ~\n", ""},
		{"nothing", "mode:\n", ""},
		{"empty", "mode: ''\n", ""},
		{"a list", "mode:\n  - 10.0.0.0/8\n  - fd00::/8\n", "10.0.0.0/8,fd00::/8"},
		{"a list in brackets", "mode: [a, 'b', 3, true]\n", "a,b,3,true"},
		{"a list of one", "mode: [a]\n", "a"},
		{"an empty list", "mode: []\n", ""},
		{"characters of any script", "mode: 日本 ü\n", "日本 ü"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReader()
			values, err := r.load(settings.Sources{File: write(t, "settings.yaml", tt.text)})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.read["mode"]; got != tt.want {
				t.Errorf("read %q, want %q", got, tt.want)
			}
			if got := source(t, values, "mode"); !strings.HasPrefix(got, "file ") {
				t.Errorf("it comes from %s", got)
			}
		})
	}
}

func TestFileWithNothingInItSetsNothing(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "blank": "\n  \n", "comments": "# one\n\n# two\n", "a marker": "---\n", "a marker and a comment": "---\n# one\n", "null": "~\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader()
			values, err := r.load(settings.Sources{File: write(t, "settings.yaml", text)})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				if v.Source != "default" {
					t.Errorf("%s comes from %s", v.Name, v.Source)
				}
			}
		})
	}
}

func TestSourceInTheFileHasLineAndColumn(t *testing.T) {
	file := write(t, "settings.yaml", "# a node\n\n{listen: a,\n mode: test}\n")
	values, err := newReader().load(settings.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"listen": ":3:2", "mode": ":4:2"} {
		if got := source(t, values, name); got != "file "+file+want {
			t.Errorf("%s comes from %s, want %s", name, got, want)
		}
	}
}

func TestFileWithAMistakeIsRefused(t *testing.T) {
	tests := []struct {
		name, text string
		says       []string // of settings.yaml
	}{
		{"an unknown name", "listen: a\nmodd: b\n", []string{`settings.yaml:2:1: unknown setting "modd"; did you mean "mode"?`}},
		{"an unknown name in braces", "{modd: b}", []string{`settings.yaml:1:2: unknown setting "modd"; did you mean "mode"?`}},
		{"a variable's name", "GATEHOUSE_MODE: b\n", []string{`settings.yaml:1:1: unknown setting "GATEHOUSE_MODE"`}},
		{"all unknown names", "a: 1\nb: 2\n", []string{`settings.yaml:1:1: unknown setting "a"`, `settings.yaml:2:1: unknown setting "b"`}},
		{"a number for a name", "10: a\n", []string{`settings.yaml:1:1: unknown setting "10"`}},
		{"a name twice", "mode: a\nlisten: b\nmode: c\n", []string{"mode", "[3:1]", "[1:1]"}},
		{"a name twice in braces", "{mode: a, mode: a}", []string{"mode", "[1:11]"}},
		{"a mapping", "mode:\n  a: b\n", []string{"settings.yaml:2:", "mode: want a plain value or a list of them"}},
		{"a mapping in braces", "mode: {a: b, c: d}\n", []string{"settings.yaml:1:7: mode: want a plain value"}},
		{"an empty mapping", "mode: {}\n", []string{"settings.yaml:1:7: mode: want a plain value"}},
		{"a list of mappings", "mode: [{a: b}]\n", []string{"mode: want a plain value"}},
		{"a list in a list", "mode: [a, [b]]\n", []string{"mode: want a plain value"}},
		{"a list alone", "- mode\n", []string{"want names and values, such as"}},
		{"a value alone", "test\n", []string{"want names and values, such as"}},
		{"two documents", "mode: a\n---\nlisten: b\n", []string{"want one document, found 2"}},
		{"a merge", "<<: {mode: a}\n", []string{`settings.yaml:1:1: unknown setting "<<"`}},
		{"a tab before a name", "\tmode: a\n", []string{"settings.yaml", "[1:"}},
		{"no space after the colon", "mode:a\n", []string{"want names and values, such as"}},
		{"two colons", "mode: a: b\n", []string{"settings.yaml", "[1:"}},
		{"an open bracket", "mode: [a\n", []string{"settings.yaml", "[1:7]"}},
		{"an open quote", "mode: 'a\n", []string{"settings.yaml", "[1:7]"}},
		{"an unknown alias", "mode: *nowhere\n", []string{"settings.yaml", "mode"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReader()
			_, err := r.load(settings.Sources{File: write(t, "settings.yaml", tt.text)})
			says(t, err, tt.says...)
		})
	}
}

// A value must be what is written, or be refused: never a part of the
// notation, such as the sign of an anchor.
func TestNotationIsNeverTakenForAValue(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an anchor", "mode: &m test\n", "test"},
		{"an alias", "listen: &m test\nmode: *m\n", "test"},
		{"an anchor in a list", "mode: [&m test]\n", "test"},
		{"a tag of YAML", "mode: !!str test\n", "test"},
		{"a tag of one's own", "mode: !env test\n", "test"},
		{"a tag on a mapping", "mode: !!map {a: b}\n", ""},
		{"an anchor on a mapping", "mode: &m {a: b}\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReader()
			_, err := r.load(settings.Sources{File: write(t, "settings.yaml", tt.text)})
			if got := r.read["mode"]; err == nil && (got != tt.want || tt.want == "") {
				t.Errorf("read %q, want %q or an error", got, tt.want)
			}
		})
	}
}

func TestFileThatIsNotThereIsAnError(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "nowhere.yaml")
	_, err := newReader().load(settings.Sources{File: missing})
	says(t, err, "settings file", missing)
	_, err = newReader().load(settings.Sources{File: t.TempDir()})
	says(t, err, "settings file")
}

func TestFileOfAMegabyteIsRead(t *testing.T) {
	const mega = 1 << 20
	item := strings.Repeat("y", 98)
	for name, tt := range map[string]struct{ text, want string }{
		"a value":  {"mode: " + strings.Repeat("x", mega) + "\n", strings.Repeat("x", mega)},
		"comments": {strings.Repeat("# filler\n", mega/9) + "mode: test\n", "test"},
		"a list":   {"mode: [" + strings.Repeat(item+", ", mega/100) + "x]\n", strings.Repeat(item+",", mega/100) + "x"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader()
			if _, err := r.load(settings.Sources{File: write(t, "settings.yaml", tt.text)}); err != nil {
				t.Fatal(err)
			}
			if got := r.read["mode"]; got != tt.want {
				t.Errorf("read %d bytes, want %d", len(got), len(tt.want))
			}
		})
	}
}

// What is wrong with a file is told on a terminal and in logs.
func TestErrorsOfTheFileTellNoSecret(t *testing.T) {
	for name, text := range map[string]string{
		"a mistake on its line":   "database: postgres://u:hunter2@h/db: x\n",
		"a mistake after it":      "master-key: hunter2\nmode: [a\n",
		"a mistake before it":     "mode: [a\nmaster-key: hunter2\n",
		"a name twice":            "master-key: hunter2\nmaster-key: hunter2\n",
		"an unknown name near it": "master-key: hunter2\nmodd: a\n",
		"a mapping around it":     "master-key: {a: hunter2}\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newReader().load(settings.Sources{File: write(t, "settings.yaml", text)})
			says(t, err, "settings.yaml")
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the secret:\n%v", err)
			}
		})
	}
}

// Whatever a file holds, reading it ends, without a panic, in values whose
// places are told or in an error that names the file.
func FuzzFile(f *testing.F) {
	f.Add("listen: a\nmode: [b, 'c'] # d\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := write(t, "settings.yaml", text)
		values, err := newReader().load(settings.Sources{File: path})
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("the error %q does not name the file", err)
		}
		for _, v := range values {
			if v.Source != "default" && !place.MatchString(strings.TrimPrefix(v.Source, "file "+path)) {
				t.Errorf("%s comes from %s", v.Name, v.Source)
			}
		}
	})
}

var place = regexp.MustCompile(`^:[1-9][0-9]*:[1-9][0-9]*$`)
