package sample

import (
	"container/list"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"
)

// generation is the version of the FusionBrain API that a job was made with.
type generation int

const (
	firstGeneration generation = iota + 1
	secondGeneration
)

// state is how far a job is, in the words of the API.
type state string

const (
	stateInitial    state = "INITIAL"
	stateProcessing state = "PROCESSING"
	stateDone       state = "DONE"
	stateFail       state = "FAIL"
)

// job is one accepted generation. It never changes.
type job struct {
	id      string
	made    generation
	order   order
	created time.Time
}

// failPrefix begins the prompts whose jobs fail.
const failPrefix = "fail:"

// failure returns why the job fails, and whether it does.
func (j job) failure() (string, bool) {
	reason, fails := strings.CutPrefix(j.order.prompt, failPrefix)
	return strings.TrimSpace(reason), fails
}

// jobs keeps accepted generations, oldest first, until they are fetched, grow
// too old or are too many.
type jobs struct {
	delay   time.Duration // from INITIAL to DONE
	ttl     time.Duration
	queue   int // unfinished jobs, at most
	maximum int // jobs, at most

	mu   sync.Mutex
	list *list.List // of job, in order of arrival
	byID map[string]*list.Element
}

func newJobs(o Options) *jobs {
	return &jobs{
		delay: o.RenderDelay, ttl: o.ResultTTL + o.RenderDelay, queue: o.QueueSize, maximum: o.MaxResults,
		list: list.New(), byID: make(map[string]*list.Element),
	}
}

// add accepts a job, or reports false when the queue is full.
func (j *jobs) add(made generation, o order, now time.Time) (string, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expire(now)
	if j.unfinished(now) >= j.queue {
		return "", false
	}
	if j.list.Len() >= j.maximum {
		j.remove(j.list.Front())
	}
	id := newUUID()
	j.byID[id] = j.list.PushBack(job{id: id, made: made, order: o, created: now})
	return id, true
}

// busy reports whether add would refuse a job.
func (j *jobs) busy(now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unfinished(now) >= j.queue
}

// look returns a job and its state, without using it up.
func (j *jobs) look(made generation, id string, now time.Time) (job, state, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expire(now)
	element, ok := j.byID[id]
	if !ok || element.Value.(job).made != made {
		return job{}, "", false
	}
	found := element.Value.(job)
	return found, j.state(found, now), true
}

// take removes a finished job and returns it: of several callers, one gets it.
func (j *jobs) take(made generation, id string, now time.Time) (job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	element, ok := j.byID[id]
	if !ok {
		return job{}, false
	}
	found := element.Value.(job)
	if found.made != made || j.state(found, now) != stateDone {
		return job{}, false
	}
	j.remove(element)
	return found, true
}

// state is a matter of time alone: a job waits for a quarter of the delay.
func (j *jobs) state(of job, now time.Time) state {
	elapsed := now.Sub(of.created)
	if elapsed >= j.delay {
		if _, fails := of.failure(); fails {
			return stateFail
		}
		return stateDone
	}
	if elapsed < j.delay/4 {
		return stateInitial
	}
	return stateProcessing
}

// unfinished counts from the newest back to the first that is finished.
func (j *jobs) unfinished(now time.Time) int {
	count := 0
	for e := j.list.Back(); e != nil && now.Sub(e.Value.(job).created) < j.delay; e = e.Prev() {
		count++
	}
	return count
}

func (j *jobs) expire(now time.Time) {
	for e := j.list.Front(); e != nil && now.Sub(e.Value.(job).created) >= j.ttl; e = j.list.Front() {
		j.remove(e)
	}
}

func (j *jobs) remove(e *list.Element) {
	delete(j.byID, e.Value.(job).id)
	j.list.Remove(e)
}

// newUUID returns a random UUID, version 4 (RFC 9562).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
