package machine

// Facts are what is known of a machine. What could not be read is zero.
type Facts struct {
	CPU         string `json:"cpu"`          // the model's name
	Cores       int    `json:"cores"`        // logical ones this process may use
	MemoryBytes int64  `json:"memory_bytes"` // of the machine
	Kernel      string `json:"kernel"`       // its release
	OS          string `json:"os"`
	Arch        string `json:"arch"`
}
