package report

import (
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
	points      []point
}

// point is a value; if y is NaN there was nothing and the line breaks.
type point struct{ x, y float64 }

// mark is a thin upright line across the chart at x, and how much room there is
// for its label to the next.
type mark struct {
	at, wide float64
	label    string
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

// path is a line: its strokes, and its points without a neighbour.
type path struct{ Name, Style, D, Dots string }

type placed struct {
	At, Label string
	Middle    string // of its room, where the label is
	Minor     bool
}

func (c chart) plot() plot {
	p := plot{Title: c.title, Note: c.note}
	var told []string
	for _, l := range c.lines {
		if low, high, ok := extent(l); ok {
			told = append(told, fmt.Sprintf("%s from %s to %s, highest at %s", l.name, c.y.label(low.y), c.y.label(high.y), c.x.label(high.x)))
			p.Lines = append(p.Lines, c.path(l))
		}
	}
	if len(told) == 0 {
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
		at := c.x.at(m.at)
		room := c.x.at(m.at+m.wide) - at
		if room < 0.08 {
			m.label = ""
		}
		p.Marks = append(p.Marks, placed{At: perCent(at), Label: m.label, Middle: perCent(at + room/2), Minor: room < 0.2})
	}
	return p
}

// path is a line as the d attributes of SVG paths. A point alone becomes a
// stroke so short that only its round ends show.
func (c chart) path(l line) path {
	p := path{Name: l.name, Style: l.style}
	gap := func(i int) bool { return i < 0 || i == len(l.points) || math.IsNaN(l.points[i].y) }
	for i, q := range l.points {
		if gap(i) {
			continue
		}
		at := fmt.Sprintf("%.1f %.1f", 1000*c.x.at(q.x), 1000*(1-c.y.at(q.y)))
		switch {
		case gap(i-1) && gap(i+1):
			p.Dots += "M" + at + "h.1"
		case gap(i - 1):
			p.D += "M" + at
		default:
			p.D += "L" + at
		}
	}
	return p
}

// perCent is a share of the plot as SVG wants it, without the sign.
func perCent(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) }

// extent is the lowest and the highest of all points, each the first such; ok
// is false if there is none.
func extent(lines ...line) (low, high point, ok bool) {
	for _, l := range lines {
		for _, q := range l.points {
			if math.IsNaN(q.y) {
				continue
			}
			if !ok || q.y < low.y {
				low = q
			}
			if !ok || q.y > high.y {
				high = q
			}
			ok = true
		}
	}
	return low, high, ok
}
