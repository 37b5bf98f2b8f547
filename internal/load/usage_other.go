//go:build !unix

package load

import "time"

func cpuTime() time.Duration { return 0 }
func maxRSS() int64          { return 0 }
func maxIdleConns() int      { return 512 }
