package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// memory is what a process remembers between its starts.
type memory struct {
	Store   string `json:"store"`
	Version uint64 `json:"version"` // the highest it has applied
	Row     string `json:"row"`     // its row in the table of proxies
}

// stateFile keeps a memory in a file that one process at a time can have. A nil
// stateFile remembers nothing.
type stateFile struct {
	file *os.File
	mu   sync.Mutex
	memory
}

// openState opens or makes the file and locks it.
func openState(path string) (*stateFile, error) {
	if path == "" {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("opening the state file %s: %w", path, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the state file %s: %w", path, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("the state file %s is in use by another process: give each process its own data directory", path)
	}
	s := &stateFile{file: file}
	if err := s.read(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("the state file %s cannot be read (%w): remove it if this store is new, "+
			"or run `keystile store accept` to take the store as it is", path, err)
	}
	return s, nil
}

func (s *stateFile) read() error {
	text, err := io.ReadAll(io.LimitReader(s.file, 4096))
	if err != nil || len(text) == 0 {
		return err
	}
	return json.Unmarshal(text, &s.memory)
}

func (s *stateFile) get() memory {
	if s == nil {
		return memory{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory
}

// begin notes the store and the row of this process.
func (s *stateFile) begin(store, row string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Store, s.Row = store, row
	return s.write()
}

// remember notes a version that was applied. What cannot be written now is written
// with the next.
func (s *stateFile) remember(store string, version uint64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if version > s.Version && store == s.Store {
		s.Version = version
		_ = s.write()
	}
}

// write replaces the content. It is shorter than a block and padded to one length, so
// that no mixture of two states can be read.
func (s *stateFile) write() error {
	text, err := json.Marshal(s.memory)
	if err != nil {
		return err
	}
	const length = 256
	if len(text) > length {
		return errors.New("the state is too long")
	}
	padded := make([]byte, length)
	for i := copy(padded, text); i < length; i++ {
		padded[i] = ' '
	}
	_, err = s.file.WriteAt(padded, 0)
	return err
}

// close lets go of the file.
func (s *stateFile) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}

// Accept makes the state file forget what it remembers, so that the next start takes
// the store as it is. The file must not be in use.
func Accept(path string) error {
	s, err := openState(path)
	if err != nil {
		return err
	}
	s.memory = memory{}
	return errors.Join(s.write(), s.close())
}
