package machine

import (
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// Read says what this machine is. It can't fail: what a system does not tell,
// or tells in another way than Linux, stays empty.
func Read() Facts {
	memory := memTotal(text("/proc/meminfo"))
	for _, file := range limitFiles(text("/proc/self/cgroup")) {
		if limit := memoryMax(text(file)); limit > 0 && (memory == 0 || limit < memory) {
			memory = limit
		}
	}
	return Facts{
		CPU: cpuModel(text("/proc/cpuinfo")), Cores: runtime.NumCPU(), MemoryBytes: memory,
		Kernel: kernel(), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
}

// text is what a file holds, or "" where it can't be read.
func text(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(b)
}

// cpuModel reads /proc/cpuinfo: x86 gives each core's model name, ARM often
// only the board's. Cores are taken as alike.
func cpuModel(cpuinfo string) string {
	for _, field := range []string{"model name", "Model", "Hardware", "cpu model", "cpu"} {
		if value := value(cpuinfo, field); value != "" {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// memTotal reads /proc/meminfo, whose kB are KiB.
func memTotal(meminfo string) int64 {
	number, unit, _ := strings.Cut(value(meminfo, "MemTotal"), " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || unit != "kB" || n < 0 || n > math.MaxInt64>>10 {
		return 0
	}
	return n << 10
}

// value is what follows the colon of the first line with that field.
func value(lines, field string) string {
	for line := range strings.Lines(lines) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// limitFiles are the memory limits of the process's control group, version 2,
// and of all those above it, each of which holds.
func limitFiles(cgroup string) (files []string) {
	for line := range strings.Lines(cgroup) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		if !ok {
			continue
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			files = append(files, path.Join("/sys/fs/cgroup", group, "memory.max"))
			if group == "/" {
				return files
			}
		}
	}
	return nil
}

// memoryMax reads a control group's memory.max, in bytes; 0 is no limit.
func memoryMax(limit string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(limit), 10, 64)
	if err != nil || n < 0 { // "max"
		return 0
	}
	return n
}
