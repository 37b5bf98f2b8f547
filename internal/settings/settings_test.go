package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatehouse/internal/settings"
)

// reader are the settings of these tests, and what was read into them.
type reader struct {
	all  []settings.Setting
	read map[string]string
}

func newReader() *reader {
	r := &reader{read: make(map[string]string)}
	for _, s := range []settings.Setting{
		{Name: "listen", Default: "127.0.0.1:8080"},
		{Name: "admin-listen", Default: "127.0.0.1:9090"},
		{Name: "mode", Default: "live"},
		{Name: "database", Default: "sqlite:gatehouse.db", MayHoldPassword: true},
		{Name: "master-key", Secret: true},
	} {
		s.Read = func(v string) error {
			if v == "bad" {
				return errors.New("want something better")
			}
			r.read[s.Name] = v
			return nil
		}
		r.all = append(r.all, s)
	}
	return r
}

func (r *reader) load(from settings.Sources) ([]settings.Value, error) {
	return settings.Load(r.all, from)
}

// write makes a file of the test's own and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// says checks that an error says each of some things.
func says(t *testing.T, err error, things ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("there is no error, want one that says %q", things)
		return
	}
	for _, thing := range things {
		if !strings.Contains(err.Error(), thing) {
			t.Errorf("the error %q does not say %q", err, thing)
		}
	}
}

func TestFlagBeatsVariableBeatsFileBeatsDefault(t *testing.T) {
	file := write(t, "settings.yaml", "mode: of the file\nlisten: of the file\nadmin-listen: of the file\n")
	r := newReader()
	values, err := r.load(settings.Sources{
		Flags:   map[string]string{"mode": "of the flag"},
		Environ: []string{"PATH=/bin", "GATEHOUSE_MODE=of the variable", "GATEHOUSE_LISTEN=of the variable"},
		File:    file,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []settings.Value{
		{Name: "listen", Value: "of the variable", Source: "variable GATEHOUSE_LISTEN"},
		{Name: "admin-listen", Value: "of the file", Source: "file " + file + ":3:1"},
		{Name: "mode", Value: "of the flag", Source: "flag --mode"},
		{Name: "database", Value: "sqlite:gatehouse.db", Source: "default"},
		{Name: "master-key", Value: "", Source: "default"},
	}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("the values differ (-want +got):\n%s", diff)
	}
	wantRead := map[string]string{
		"listen": "of the variable", "admin-listen": "of the file", "mode": "of the flag", "database": "sqlite:gatehouse.db", "master-key": "",
	}
	if diff := cmp.Diff(wantRead, r.read); diff != "" {
		t.Errorf("what was read differs (-want +got):\n%s", diff)
	}
}

func TestEmptyFlagIsAValue(t *testing.T) {
	r := newReader()
	values, err := r.load(settings.Sources{Flags: map[string]string{"mode": ""}, Environ: []string{"GATEHOUSE_MODE=test"}})
	if err != nil || values[2].Source != "flag --mode" || r.read["mode"] != "" {
		t.Errorf("%+v, %v, read %q", values[2], err, r.read["mode"])
	}
}

func TestVariableIsNamedAfterTheSetting(t *testing.T) {
	for name, want := range map[string]string{
		"listen": "GATEHOUSE_LISTEN", "admin-listen": "GATEHOUSE_ADMIN_LISTEN", "limit-auth-failure": "GATEHOUSE_LIMIT_AUTH_FAILURE",
	} {
		if got := (settings.Setting{Name: name}).Env(); got != want {
			t.Errorf("the variable of %s is %s, want %s", name, got, want)
		}
	}
}

func TestErrorNamesSettingSourceAndWhatWasWanted(t *testing.T) {
	file := write(t, "settings.yaml", "\nmode: bad\n")
	defaulted := newReader()
	defaulted.all[2].Default = "bad"
	tests := []struct {
		name string
		r    *reader
		from settings.Sources
		want string
	}{
		{"a flag", newReader(), settings.Sources{Flags: map[string]string{"mode": "bad"}}, "mode (flag --mode): want something better"},
		{"a variable", newReader(), settings.Sources{Environ: []string{"GATEHOUSE_MODE=bad"}}, "mode (variable GATEHOUSE_MODE): want something better"},
		{"a file", newReader(), settings.Sources{File: file}, "mode (file " + file + ":2:1): want something better"},
		{"a default", defaulted, settings.Sources{}, "mode (default): want something better"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := tt.r.load(tt.from); err == nil || err.Error() != tt.want {
				t.Errorf("the error is %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAllErrorsAreToldAtOnce(t *testing.T) {
	_, err := newReader().load(settings.Sources{
		Flags:   map[string]string{"mode": "bad", "database": "postgres://u:hunter2@h/db"},
		Environ: []string{"GATEHOUSE_LISTEN=bad", "GATEHOUSE_LISTN=x", "GATEHOUSE_MASTER_KEY_FILE=/nowhere/key"},
	})
	says(t, err, "mode (flag --mode)", "flag --database holds a password", "listen (variable GATEHOUSE_LISTEN)",
		"unknown variable GATEHOUSE_LISTN", "GATEHOUSE_MASTER_KEY_FILE: open /nowhere/key")
}

func TestErrorsOfTheFileAreToldTogetherWithOthers(t *testing.T) {
	file := write(t, "settings.yaml", "listn: a\nmode: {a: b}\nadmin-listen: bad\n")
	_, err := newReader().load(settings.Sources{
		Flags: map[string]string{"listen": "bad"}, Environ: []string{"GATEHOUSE_MOD=x"}, File: file,
	})
	says(t, err, file+`:1:1: unknown setting "listn"`, "mode: want a plain value", "admin-listen (file "+file+":3:1)",
		"listen (flag --listen)", "unknown variable GATEHOUSE_MOD")
}

func TestFlagThatHoldsAPasswordIsRefused(t *testing.T) {
	_, err := newReader().load(settings.Sources{Flags: map[string]string{"database": "postgres://u:hunter2@h/db"}})
	says(t, err, "flag --database", "GATEHOUSE_DATABASE", "GATEHOUSE_DATABASE_FILE")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the password: %v", err)
	}
	for name, value := range map[string]string{"database": "postgres://u@h:5432/db?sslmode=disable", "mode": "http://u:p@h"} {
		if _, err := newReader().load(settings.Sources{Flags: map[string]string{name: value}}); err != nil {
			t.Errorf("--%s=%s: %v", name, value, err)
		}
	}
}

func TestFlagForASecretIsRefused(t *testing.T) {
	r := newReader()
	_, err := r.load(settings.Sources{Flags: map[string]string{"master-key": "hunter2"}})
	says(t, err, "--master-key")
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the secret: %v", err)
	}
}

func TestSecretIsReadAndNeverTold(t *testing.T) {
	secretFile := write(t, "key", "hunter2\n")
	for name, from := range map[string]settings.Sources{
		"variable GATEHOUSE_MASTER_KEY":      {Environ: []string{"GATEHOUSE_MASTER_KEY=hunter2"}},
		"variable GATEHOUSE_MASTER_KEY_FILE": {Environ: []string{"GATEHOUSE_MASTER_KEY_FILE=" + secretFile}},
		"file":                               {File: write(t, "settings.yaml", "master-key: hunter2\n")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader()
			values, err := r.load(from)
			if err != nil || r.read["master-key"] != "hunter2" {
				t.Fatalf("read %q, %v", r.read["master-key"], err)
			}
			secret := values[slices.IndexFunc(values, func(v settings.Value) bool { return v.Name == "master-key" })]
			if secret.Value != "xxxxx" || !strings.HasPrefix(secret.Source, name) {
				t.Errorf("it is told as %+v", secret)
			}
		})
	}
}

func TestNothingDeclaredIsNothingFound(t *testing.T) {
	values, err := settings.Load(nil, settings.Sources{Environ: []string{"GATEHOUSEKEEPER=x", "gatehouse_listen=x", ""}})
	if err != nil || !cmp.Equal(values, []settings.Value(nil), cmpopts.EquateEmpty()) {
		t.Errorf("%v, %v", values, err)
	}
}
