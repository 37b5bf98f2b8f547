package report

import (
	"context"
	"fmt"
	"html"
	"image"
	_ "image/png" // what the browser's screenshots are
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load/gate"
)

const (
	dark  = "--blink-settings=preferredColorScheme=0"
	light = "--blink-settings=preferredColorScheme=1"
	desk  = "--window-size=1200,2400"
)

// chromium runs the browser on a page until it ends by itself, and returns what
// it wrote to standard output.
func chromium(t *testing.T, file string, flags ...string) string {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium here, so nobody has looked at the page: apt-get install chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	flags = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
	}, flags...)
	cmd := exec.CommandContext(ctx, path, append(flags, "file://"+file)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, said.String())
	}
	return string(out)
}

func pageFile(t *testing.T, page string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// screenshot returns the page as seen, and how many colours it has.
func screenshot(t *testing.T, file string, flags ...string) (image.Image, int) {
	t.Helper()
	shot := filepath.Join(t.TempDir(), "page.png")
	chromium(t, file, append(flags, "--screenshot="+shot)...)
	f, err := os.Open(shot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[3]uint32]bool{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 3 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
		}
	}
	return img, len(seen)
}

func TestPageInABrowser(t *testing.T) {
	for _, v := range []gate.Verdict{gate.Pass, gate.Fail, gate.Inconclusive} {
		page := render(t, judged(pageRun(300), v))
		dom := chromium(t, pageFile(t, page), "--dump-dom") // the browser's own tree
		if n, want := strings.Count(dom, `<svg role="img">`), strings.Count(page, `<svg role="img">`); n != want || n < 6 {
			t.Errorf("%s: the browser sees %d charts, the page has %d", v, n, want)
		}
		if !strings.Contains(dom, `<span class="word">`+strings.ToUpper(string(v))+`</span>`) {
			t.Errorf("%s: the browser doesn't see the verdict", v)
		}
	}
}

func TestPageLooksLikeOne(t *testing.T) {
	page := render(t, judged(pageRun(300), gate.Fail))
	tests := []struct {
		name, page    string
		flags         []string
		least, most   float64 // brightness of the paper
		withoutColour bool
	}{
		{"light", page, []string{desk, light}, 0.95, 1, false},
		{"dark", page, []string{desk, dark}, 0, 0.15, false},
		{"phone", framed(page, 360), []string{"--window-size=500,2400", light}, 0.95, 1, false},
		{"with another style than the policy's", strings.Replace(page, "<style>", "<style> ", 1), []string{desk, dark}, 0, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, colours := screenshot(t, pageFile(t, tt.page), tt.flags...)
			if plain := colours < 300; plain != tt.withoutColour {
				t.Errorf("it has %d colours", colours)
			}
			if got := brightness(img); got < tt.least || got > tt.most {
				t.Errorf("the paper's brightness is %.2f, want %.2f to %.2f", got, tt.least, tt.most)
			}
		})
	}
}

// brightness is that of the page's corner, which is paper: 0 to 1.
func brightness(img image.Image) float64 {
	r, g, b, _ := img.At(2, 2).RGBA()
	return float64(r+g+b) / (3 * 0xffff)
}

var policy = regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)

// probe is put into a copy of a page and tells the page around it what
// overflows, was fetched or went wrong.
const probe = `<script>
const wrong = [];
addEventListener("error", e => wrong.push("error " + (e.message ?? e.target.outerHTML)), true);
addEventListener("load", () => {
	const root = document.documentElement, width = root.clientWidth;
	if (root.scrollWidth > width) wrong.push("the page is " + root.scrollWidth + " wide");
	for (const e of document.querySelectorAll("body *")) {
		const box = e.getBoundingClientRect();
		if ((box.right > width + 1 || box.left < -1) && !e.closest(".scroll"))
			wrong.push(e.tagName + " from " + box.left + " to " + box.right + ": " + e.textContent.slice(0, 30));
	}
	for (const r of performance.getEntriesByType("resource")) wrong.push("fetched " + r.name);
	const told = parent.document.body.dataset;
	told.probe = (told.probe ?? "") + (wrong.join("; ") || "fine at " + width) + ";";
});
</script></head>`

// framed is a page inside one that is so wide: a window can't be narrower than
// 500.
func framed(page string, widths ...int) string {
	var b strings.Builder
	b.WriteString(`<body style="margin:0">`)
	for _, width := range widths {
		fmt.Fprintf(&b, `<iframe style="border:0;width:%dpx;height:2400px" srcdoc="%s"></iframe>`, width, html.EscapeString(page))
	}
	return b.String()
}

func TestPageFitsAPhone(t *testing.T) {
	page := render(t, judged(pageRun(300), gate.Fail))
	page = strings.Replace(policy.ReplaceAllString(page, ""), "</head>", probe, 1)
	probed := func(page string, widths ...int) string {
		_, told, _ := strings.Cut(chromium(t, pageFile(t, framed(page, widths...)), "--dump-dom", "--window-size=1500,2400"), `data-probe="`)
		told, _, _ = strings.Cut(told, `"`)
		return told
	}
	told := probed(page, 320, 360, 768, 1400)
	for _, width := range []int{320, 360, 768, 1400} {
		if !strings.Contains(told, fmt.Sprintf("fine at %d;", width)) {
			t.Errorf("it is not fine at %d: %s", width, told)
		}
	}
	broken := strings.Replace(page, "<main>", `<main><div style="width:500px;height:9px"></div><img src="gone.png">`, 1)
	told = probed(broken, 360)
	if !strings.Contains(told, "the page is 5") || !strings.Contains(told, "gone.png") {
		t.Errorf("the probe can't see what overflows and is fetched: %q", told)
	}
}

func TestPagePrints(t *testing.T) {
	pdf := filepath.Join(t.TempDir(), "page.pdf")
	chromium(t, pageFile(t, render(t, judged(pageRun(300), gate.Pass))), dark, "--print-to-pdf="+pdf)
	data, err := os.ReadFile(pdf)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(data), "%PDF-") || len(data) < 20_000 {
		t.Errorf("no PDF of a page: %d bytes", len(data))
	}
}
