//go:build !linux

package load

import "time"

// alarm wakes one goroutine at a time given in nanoseconds, as exactly as Go's
// timers do here.
type alarm struct {
	began   time.Time
	stopped chan struct{}
}

func newAlarm() (*alarm, time.Time, error) {
	a := &alarm{began: time.Now(), stopped: make(chan struct{}, 1)}
	return a, a.began, nil
}

func (a *alarm) wait(t time.Duration) {
	timer := time.NewTimer(t - time.Since(a.began))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.stopped:
		a.stop()
	}
}

func (a *alarm) stop() {
	select {
	case a.stopped <- struct{}{}:
	default:
	}
}

func (a *alarm) close() {}
