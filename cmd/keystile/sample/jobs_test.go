package sample

import (
	"fmt"
	"testing"
	"time"
)

func TestStateIsAMatterOfTimeAlone(t *testing.T) {
	j := newJobs(Options{RenderDelay: 8 * time.Second}.withDefaults())
	began := newClock().Now()
	fine, _ := j.add(firstGeneration, order{prompt: "a"}, began)
	fails, _ := j.add(firstGeneration, order{prompt: "fail:why"}, began)
	for after, want := range map[time.Duration][2]state{
		0:                    {stateInitial, stateInitial},
		2*time.Second - 1:    {stateInitial, stateInitial},
		2 * time.Second:      {stateProcessing, stateProcessing},
		8*time.Second - 1:    {stateProcessing, stateProcessing},
		8 * time.Second:      {stateDone, stateFail},
		10 * time.Minute:     {stateDone, stateFail},
		607*time.Second + 99: {stateDone, stateFail},
	} {
		for i, id := range []string{fine, fails} {
			if _, got, ok := j.look(firstGeneration, id, began.Add(after)); !ok || got != want[i] {
				t.Errorf("after %v: %s, want %s", after, got, want[i])
			}
		}
	}
	if _, ok := j.take(firstGeneration, fine, began.Add(8*time.Second-1)); ok {
		t.Error("an unfinished job was taken")
	}
	if _, ok := j.take(firstGeneration, fails, began.Add(8*time.Second)); ok {
		t.Error("a failed job was taken")
	}
	if _, ok := j.take(secondGeneration, fine, began.Add(8*time.Second)); ok {
		t.Error("the other generation took it")
	}
	if got, ok := j.take(firstGeneration, fine, began.Add(8*time.Second)); !ok || got.order.prompt != "a" {
		t.Errorf("%+v", got)
	}
}

func TestUnfinishedJobsAreNeverDroppedForNewOnes(t *testing.T) {
	j := newJobs(Options{RenderDelay: time.Second, QueueSize: 4, MaxResults: 4}.withDefaults())
	now := newClock().Now()
	var ids []string
	for i := range 4 {
		id, ok := j.add(firstGeneration, order{prompt: fmt.Sprint(i)}, now)
		if !ok {
			t.Fatal("refused with room in the queue")
		}
		ids = append(ids, id)
	}
	if _, ok := j.add(firstGeneration, order{prompt: "5"}, now.Add(time.Second-1)); ok || !j.busy(now) {
		t.Error("accepted beyond the queue")
	}
	for _, id := range ids {
		if _, _, ok := j.look(firstGeneration, id, now); !ok {
			t.Error("an unfinished job is gone")
		}
	}
	if _, ok := j.add(firstGeneration, order{prompt: "5"}, now.Add(time.Second)); !ok {
		t.Error("refused though the others are done")
	}
	if _, _, ok := j.look(firstGeneration, ids[0], now); ok || j.list.Len() != 4 {
		t.Errorf("the oldest stays; %d jobs are kept", j.list.Len())
	}
}

func TestIdentifiersAreVersion4AndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newUUID()
		if len(id) != 36 || id[14] != '4' || seen[id] {
			t.Fatalf("%s", id)
		}
		seen[id] = true
	}
}
