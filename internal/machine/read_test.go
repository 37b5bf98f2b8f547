package machine

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestReadTellsOfThisMachine(t *testing.T) {
	f := Read()
	if f.Cores < 1 || f.OS != runtime.GOOS || f.Arch != runtime.GOARCH {
		t.Errorf("read %+v", f)
	}
	if runtime.GOOS == "linux" && (f.MemoryBytes < 1<<20 || f.Kernel == "") {
		t.Errorf("read %+v, want memory and a kernel", f)
	}
}

func TestCPUModel(t *testing.T) {
	tests := []struct{ name, cpuinfo, want string }{
		{"x86", "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R)   CPU @ 2.20GHz \nprocessor\t: 1\nmodel name\t: Other\n", "Intel(R) Xeon(R) CPU @ 2.20GHz"},
		{"a board with ARM", "processor\t: 0\nBogoMIPS\t: 108.00\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n", "Raspberry Pi 4 Model B Rev 1.4"},
		{"older ARM", "Processor\t: ARMv7\nHardware\t: BCM2835\n", "BCM2835"},
		{"MIPS", "cpu model\t\t: MIPS 74Kc V5.0\n", "MIPS 74Kc V5.0"},
		{"POWER", "cpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"},
		{"ARM without a name", "processor\t: 0\nCPU implementer\t: 0x41\n", ""},
		{"no value", "model name\t:\n", ""},
		{"no colon", "model name", ""},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		if got := cpuModel(tt.cpuinfo); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestMemTotal(t *testing.T) {
	tests := []struct {
		meminfo string
		want    int64
	}{
		{"MemTotal:       16384 kB\nMemFree:  1 kB\n", 16 << 20},
		{"MemFree:  1 kB\nMemTotal: 1 kB", 1024},
		{"MemTotal: 9223372036854775807 kB", 0},
		{"MemTotal: -1 kB", 0},
		{"MemTotal: 1 MB", 0},
		{"MemTotal: much", 0},
		{"", 0},
	}
	for _, tt := range tests {
		if got := memTotal(tt.meminfo); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.meminfo, got, tt.want)
		}
	}
}

func TestMemoryMax(t *testing.T) {
	for limit, want := range map[string]int64{"536870912\n": 512 << 20, "max\n": 0, "": 0, "-1": 0, "99999999999999999999": 0} {
		if got := memoryMax(limit); got != want {
			t.Errorf("%q: %d, want %d", limit, got, want)
		}
	}
}

func TestLimitsOfAllGroupsAboveHold(t *testing.T) {
	tests := []struct {
		cgroup string
		want   []string
	}{
		{"0::/\n", []string{"/sys/fs/cgroup/memory.max"}},
		{"0::/a.slice/b.scope\n", []string{"/sys/fs/cgroup/a.slice/b.scope/memory.max", "/sys/fs/cgroup/a.slice/memory.max", "/sys/fs/cgroup/memory.max"}},
		{"4:memory:/a\n0::/b\n", []string{"/sys/fs/cgroup/b/memory.max", "/sys/fs/cgroup/memory.max"}},
		{"0::/../../a\n", []string{"/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"}},
		{"4:memory:/a\n", nil},
		{"", nil},
	}
	for _, tt := range tests {
		if got := limitFiles(tt.cgroup); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.cgroup, got, tt.want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("model name\t: x\nMemTotal: 1 kB\n0::/a\n")
	f.Add("max")
	f.Fuzz(func(t *testing.T, s string) {
		if memTotal(s) < 0 || memoryMax(s) < 0 {
			t.Errorf("%q is less than nothing", s)
		}
		_ = cpuModel(s)
		for _, file := range limitFiles(s) {
			if !strings.HasPrefix(file, "/sys/fs/cgroup/") {
				t.Errorf("%q leads to %s", s, file)
			}
		}
	})
}
