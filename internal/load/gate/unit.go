package gate

import (
	"strconv"
	"strings"
)

// Text is a number in this unit as people read it: "6.42 ms", "190,620",
// "353.77/s", "99.95 %", "0.31×", "yes".
func (u Unit) Text(v float64) string {
	switch u {
	case Milliseconds:
		return digits(v) + " ms"
	case PerSecond:
		return digits(v) + "/s"
	case Share:
		return percent(v)
	case Ratio:
		return digits(v) + "×"
	case Truth:
		if v == 0 {
			return "no"
		}
		return "yes"
	}
	return grouped(strconv.FormatFloat(v, 'f', -1, 64))
}

// digits keeps what can be meant by a measured number: two decimals, three
// below 0.1, none from 1,000 on.
func digits(v float64) string {
	switch {
	case v >= 1000:
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	case v > 0 && v < 0.1:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// percent never rounds something to nothing, nor less than all to all.
func percent(share float64) string {
	text := strconv.FormatFloat(share*100, 'f', 2, 64)
	switch {
	case text == "0.00" && share > 0:
		return "< 0.01 %"
	case text == "100.00" && share < 1:
		return "> 99.99 %"
	}
	return strings.TrimSuffix(text, ".00") + " %"
}

// grouped puts a comma before each three digits of the whole part.
func grouped(number string) string {
	whole, _, _ := strings.Cut(number, ".")
	for i := len(whole) - 3; i > 0 && number[i-1] != '-'; i -= 3 {
		number = number[:i] + "," + number[i:]
	}
	return number
}
