package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// chart is a line chart: what to show, not yet where on the page.
type chart struct {
	title string
	note  string // what one has to know to read it; may be empty
	x, y  scale
	lines []line
	marks []mark
}

// line is one series of a chart. Its style is a class of page.css that gives
// colour and dashes, so that colour alone never tells lines apart.
type line struct {
	name, style string
	filled      bool // down to the axis
	points      []point
}

// point is a value; if y is NaN there was nothing and the line breaks.
type point struct{ x, y float64 }

// mark is a thin line across the chart: upright at x, or level at y.
type mark struct {
	at    float64
	level bool
	label string
	wide  float64 // along x: how much room the label has; 0: as much as it needs
}

// plot is a chart laid out for the template. Places are per cent of the plot's
// width and height, and lines a path in a box of 1,000 by 1,000 that is
// stretched over it: text keeps its size on a phone, and strokes their width.
type plot struct {
	Title, Note, Summary string
	XTicks, YTicks       []tick
	Lines                []path
	Marks                []placed
}

type tick struct {
	At, Label string
	Minor     bool // left out where there is little room
}

// path is a line: its strokes, the area below it, and points without a neighbour.
type path struct{ Name, Style, D, Area, Dots string }

type placed struct {
	At, Label    string
	Level, Minor bool
	Stage        string // where the label of a stage's mark is: its middle
	Left         bool   // the label is left of the mark, or it would leave the plot
}

func (c chart) plot() plot {
	p := plot{Title: c.title, Note: c.note}
	var told []string
	for _, l := range c.lines {
		at, ok := highest(l.points)
		if !ok {
			continue
		}
		low, _ := extent([]line{l})
		told = append(told, fmt.Sprintf("%s from %s to %s, highest at %s",
			l.name, c.y.label(low), c.y.label(at.y), c.x.label(at.x)))
		p.Lines = append(p.Lines, c.path(l))
	}
	if len(p.Lines) == 0 {
		return p // a plot without lines is said in words instead
	}
	p.Summary = strings.Join(told, "; ") + "."
	for i, v := range slices.Concat(c.x.ticks, c.x.minor) {
		p.XTicks = append(p.XTicks, tick{perCent(c.x.at(v)), c.x.label(v), i >= len(c.x.ticks)})
	}
	for _, v := range c.y.ticks {
		p.YTicks = append(p.YTicks, tick{At: perCent(1 - c.y.at(v)), Label: c.y.label(v)})
	}
	for _, m := range c.marks {
		p.Marks = append(p.Marks, c.place(m))
	}
	return p
}

func (c chart) place(m mark) placed {
	if m.level {
		return placed{At: perCent(1 - c.y.at(m.at)), Label: m.label, Level: true}
	}
	at := c.x.at(m.at)
	if m.wide == 0 {
		return placed{At: perCent(at), Label: m.label, Left: at > 0.5}
	}
	room := c.x.at(m.at+m.wide) - at
	q := placed{At: perCent(at), Label: m.label, Stage: perCent(at + room/2), Minor: room < 0.2}
	if room < 0.08 {
		q.Label = ""
	}
	return q
}

// path is a line as the d attributes of SVG paths. A point alone becomes a
// stroke so short that only its round ends show.
func (c chart) path(l line) path {
	var d, dots, area []byte
	start, end := "", ""
	open := false
	gap := func(i int) bool { return i < 0 || i == len(l.points) || math.IsNaN(l.points[i].y) }
	for i, q := range l.points {
		if gap(i) {
			open = false
			continue
		}
		x := strconv.FormatFloat(1000*c.x.at(q.x), 'f', 1, 64)
		y := strconv.FormatFloat(1000*(1-c.y.at(q.y)), 'f', 1, 64)
		if start, end = cmp.Or(start, x), x; gap(i-1) && gap(i+1) {
			dots = append(dots, "M"+x+" "+y+"h.1"...)
			continue
		}
		command := "L"
		if !open {
			command = "M"
		}
		open = true
		d = append(d, command+x+" "+y...)
	}
	if l.filled && len(d) > 0 {
		area = append(area, "M"+start+" 1000L"...)
		area = append(append(area, d[1:]...), "L"+end+" 1000Z"...)
	}
	return path{l.name, l.style, string(d), string(area), string(dots)}
}

// perCent is a share of the plot as SVG wants it, without the sign.
func perCent(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) }

// highest is the first of the highest points; ok is false if there is none.
func highest(points []point) (at point, ok bool) {
	for _, q := range points {
		if !math.IsNaN(q.y) && (!ok || q.y > at.y) {
			at, ok = q, true
		}
	}
	return at, ok
}

// extent is the range of all values of lines; zeros if there is none.
func extent(lines []line) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, q := range l.points {
			if !math.IsNaN(q.y) {
				low, high = min(low, q.y), max(high, q.y)
			}
		}
	}
	if low > high {
		return 0, 0
	}
	return low, high
}

// thin reduces points to at most so many, each standing for equally many
// neighbours by what pick makes of their values, gaps left out.
func thin(points []point, most int, pick func([]float64) float64) []point {
	each := (len(points) + most - 1) / most
	if each <= 1 {
		return points
	}
	out := make([]point, 0, most)
	for len(points) > 0 {
		group := points[:min(each, len(points))]
		points = points[len(group):]
		var ys []float64
		for _, q := range group {
			if !math.IsNaN(q.y) {
				ys = append(ys, q.y)
			}
		}
		q := point{(group[0].x + group[len(group)-1].x) / 2, math.NaN()}
		if len(ys) > 0 {
			q.y = pick(ys)
		}
		out = append(out, q)
	}
	return out
}

func meanOf(ys []float64) float64 {
	var sum float64
	for _, y := range ys {
		sum += y
	}
	return sum / float64(len(ys))
}
