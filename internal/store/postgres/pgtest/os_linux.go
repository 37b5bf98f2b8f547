package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// dieWithParent ends a program when we end, however that happens. The signal
// makes PostgreSQL end its children and leave no shared memory behind.
func dieWithParent(c *exec.Cmd) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = new(syscall.SysProcAttr)
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGQUIT
}

// owner is who runs the server, nil for us. PostgreSQL refuses to run as root.
type owner struct{ uid, gid uint32 }

func findOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no other than us
	}
	u, err := user.Lookup("postgres")
	if _, ok := errors.AsType[user.UnknownUserError](err); ok {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("look for a user to run PostgreSQL as, which root may not: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("id of user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group of user %s: %w", u.Username, err)
	}
	return &owner{uint32(uid), uint32(gid)}, nil
}

func (o *owner) own(dir string) error {
	if o == nil {
		return nil
	}
	return os.Chown(dir, int(o.uid), int(o.gid))
}

func (o *owner) run(c *exec.Cmd) {
	if o != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
	}
}
