package settings_test

import (
	"strings"
	"testing"

	"gatehouse/internal/settings"
)

// source finds where a setting's value came from.
func source(t *testing.T, values []settings.Value, name string) string {
	t.Helper()
	for _, v := range values {
		if v.Name == name {
			return v.Source
		}
	}
	t.Fatalf("there is no setting %s in %+v", name, values)
	return ""
}

func TestEmptyVariableIsAsIfItWereNotSet(t *testing.T) {
	tests := []struct{ name, line, setting string }{
		{"a plain one", "GATEHOUSE_LISTEN=", "listen"},
		{"a secret", "GATEHOUSE_MASTER_KEY=", "master-key"},
		{"one without a sign", "GATEHOUSE_MODE", "mode"},
		{"one that names a file", "GATEHOUSE_DATABASE_FILE=", "database"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			values, err := newReader().load(settings.Sources{Environ: []string{tt.line}})
			if err != nil {
				t.Fatal(err)
			}
			if got := source(t, values, tt.setting); got != "default" {
				t.Errorf("%s comes from %s", tt.setting, got)
			}
		})
	}
}

func TestVariableMayNameAFileWithAPassword(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"one line", "postgres://u:p@h/db", "postgres://u:p@h/db"},
		{"a line end", "postgres://u:p@h/db\n", "postgres://u:p@h/db"},
		{"line ends of Windows", "postgres://u:p@h/db\r\n\r\n", "postgres://u:p@h/db"},
		{"spaces stay", " x \n", " x "},
		{"two lines", "a\nb\n", "a\nb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newReader()
			values, err := r.load(settings.Sources{Environ: []string{"GATEHOUSE_DATABASE_FILE=" + write(t, "database", tt.text)}})
			if err != nil || r.read["database"] != tt.want {
				t.Errorf("read %q, %v, want %q", r.read["database"], err, tt.want)
			}
			if got := source(t, values, "database"); got != "variable GATEHOUSE_DATABASE_FILE" {
				t.Errorf("it comes from %s", got)
			}
		})
	}
}

func TestFileThatCannotBeReadIsNamed(t *testing.T) {
	for name, path := range map[string]string{"no such file": "/nowhere/password", "a folder": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			_, err := newReader().load(settings.Sources{Environ: []string{"GATEHOUSE_DATABASE_FILE=" + path}})
			says(t, err, "GATEHOUSE_DATABASE_FILE", path)
		})
	}
}

func TestVariableAndItsFileExcludeEachOther(t *testing.T) {
	byFile := "GATEHOUSE_DATABASE_FILE=" + write(t, "database", "sqlite:b")
	for _, environ := range [][]string{{"GATEHOUSE_DATABASE=sqlite:a", byFile}, {byFile, "GATEHOUSE_DATABASE=sqlite:a"}} {
		_, err := newReader().load(settings.Sources{Environ: environ})
		says(t, err, "GATEHOUSE_DATABASE and GATEHOUSE_DATABASE_FILE are both set")
	}
	r := newReader()
	if _, err := r.load(settings.Sources{Environ: []string{"GATEHOUSE_DATABASE=", byFile}}); err != nil || r.read["database"] != "sqlite:b" {
		t.Errorf("beside an empty variable: read %q, %v", r.read["database"], err)
	}
}

func TestUnknownVariableIsRefusedWithTheNearest(t *testing.T) {
	tests := []struct{ variable, hint string }{
		{"GATEHOUSE_LISTN", `; did you mean "GATEHOUSE_LISTEN"?`},
		{"GATEHOUSE_ADMINLISTEN", `; did you mean "GATEHOUSE_ADMIN_LISTEN"?`},
		{"GATEHOUSE_MODE_FILE", `; did you mean "GATEHOUSE_MODE"?`}, // no secret: no file
		{"GATEHOUSE_database", ""},
		{"GATEHOUSE_", ""},
		{"GATEHOUSE_SMTP_URLS", ""},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			_, err := newReader().load(settings.Sources{Environ: []string{tt.variable + "=x"}})
			says(t, err, "unknown variable "+tt.variable+tt.hint)
			if err != nil && strings.Contains(err.Error(), "=") {
				t.Errorf("the error tells the value: %v", err)
			}
		})
	}
}

// Kubernetes sets these in each container beside a Service, here two named
// gatehouse and gatehouse-admin.
func TestServiceLinksOfKubernetesAreNoMistakes(t *testing.T) {
	_, err := newReader().load(settings.Sources{Environ: []string{
		"GATEHOUSE_SERVICE_HOST=10.0.0.11", "GATEHOUSE_SERVICE_PORT=8080", "GATEHOUSE_SERVICE_PORT_HTTP=8080",
		"GATEHOUSE_PORT=tcp://10.0.0.11:8080", "GATEHOUSE_PORT_8080_TCP=tcp://10.0.0.11:8080", "GATEHOUSE_PORT_8080_TCP_PROTO=tcp",
		"GATEHOUSE_PORT_8080_TCP_PORT=8080", "GATEHOUSE_PORT_8080_TCP_ADDR=10.0.0.11",
		"GATEHOUSE_ADMIN_SERVICE_HOST=10.0.0.12", "GATEHOUSE_ADMIN_SERVICE_PORT=9090", "GATEHOUSE_ADMIN_SERVICE_PORT_METRICS=9090",
		"GATEHOUSE_ADMIN_PORT=tcp://10.0.0.12:9090", "GATEHOUSE_ADMIN_PORT_9090_TCP=tcp://10.0.0.12:9090",
	}})
	if err != nil {
		t.Error(err)
	}
}

// What only looks like a service link is a mistake, which must not pass in
// silence: Kubernetes never sets a port alone.
func TestMistakesAreNoServiceLinks(t *testing.T) {
	for _, line := range []string{"GATEHOUSE_PORT=9000", "GATEHOUSE_LISTEN_PORT=9000", "GATEHOUSE_HOST=0.0.0.0", "GATEHOUSE_PORTS=9000", "GATEHOUSE_SERVICE=x"} {
		t.Run(line, func(t *testing.T) {
			_, err := newReader().load(settings.Sources{Environ: []string{line}})
			says(t, err, "unknown variable")
		})
	}
}
