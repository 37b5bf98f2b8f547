package telemetry_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/telemetry"
)

func TestLoggerWritesTheFormatThatWasAskedFor(t *testing.T) {
	var out bytes.Buffer
	log, err := telemetry.NewLogger(&out, "json", "info")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("two\nlines", "route", "/a b")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "two\nlines" || line["route"] != "/a b" {
		t.Errorf("as JSON it wrote %q: %v, %v", out.String(), line, err)
	}
	out.Reset()
	if log, err = telemetry.NewLogger(&out, "text", "info"); err != nil {
		t.Fatal(err)
	}
	log.Info("two\nlines", "route", "/a b")
	if got := out.String(); !strings.Contains(got, `msg="two\nlines" route="/a b"`) || strings.Count(got, "\n") != 1 {
		t.Errorf("as text it wrote %q, want one line", got)
	}
}

func TestLoggerLeavesOutWhatIsBelowItsLevel(t *testing.T) {
	levels := []string{"debug", "info", "warn", "error"}
	for from, level := range levels {
		var out bytes.Buffer
		log, err := telemetry.NewLogger(&out, "text", level)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			log.Log(t.Context(), l, "said")
		}
		if got, want := strings.Count(out.String(), "said"), len(levels)-from; got != want {
			t.Errorf("from %s on it wrote %d lines, want %d:\n%s", level, got, want, out.String())
		}
	}
}

func TestLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct{ format, level, says string }{
		{"xml", "info", `log format "xml": want json or text`},
		{"", "info", `log format "": want json or text`},
		{"json", "loud", `log level "loud": want debug, info, warn or error`},
		{"json", "", `log level "": want debug, info, warn or error`},
	} {
		log, err := telemetry.NewLogger(&bytes.Buffer{}, tt.format, tt.level)
		if log != nil || err == nil || err.Error() != tt.says {
			t.Errorf("NewLogger(%q, %q) = %v, %v, want %q", tt.format, tt.level, log, err, tt.says)
		}
	}
}
