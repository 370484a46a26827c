package main

import (
	"context"
	"errors"
	"fmt"

	"keystile/keys"
)

// verification follows an audit trail, page by page, while others write to it.
type verification struct {
	known keys.Link // of an earlier time; zero: none

	anchor keys.Link // from which the trail was followed
	link   keys.Link // to which it was followed
	passed bool      // known lies between
}

// verifyReport is what programs read.
type verifyReport struct {
	Entries uint64    `json:"entries"`
	Anchor  keys.Link `json:"anchor"`
	Head    keys.Link `json:"head"`
}

// run follows the trail until a page ends with its head.
func (v *verification) run(ctx context.Context, api *apiClient) error {
	for begun := false; ; begun = true {
		page, err := api.audit(ctx, v.link.Number, maxAuditPage)
		if err != nil {
			return err
		}
		// What the server has trimmed since the last page is behind the anchor: begin again there.
		if !begun || page.Anchor.Number > v.link.Number {
			v.begin(page.Anchor)
		}
		if err := v.follow(page); err != nil {
			return v.explain(err)
		}
		if v.link.Number >= page.Head.Number {
			return v.compare()
		}
	}
}

func (v *verification) begin(anchor keys.Link) {
	v.anchor, v.link, v.passed = anchor, anchor, anchor == v.known
}

// follow checks the entries of a page, and that it leads towards its head.
func (v *verification) follow(page auditPage) error {
	if page.Anchor.Number == v.link.Number && page.Anchor != v.link {
		return fmt.Errorf("%w: the anchor is not entry %d", keys.ErrTrail, v.link.Number)
	}
	for _, e := range page.Entries {
		if _, err := v.link.Follow(e.sealed()); err != nil {
			return err
		}
		if v.link.Number == v.known.Number {
			if v.link != v.known {
				return fmt.Errorf("%w: entry %d is not the one of --head", keys.ErrTrail, v.link.Number)
			}
			v.passed = true
		}
	}
	switch head := page.Head; {
	case v.link.Number > head.Number:
		return fmt.Errorf("%w: the head is entry %d, but entry %d follows it", keys.ErrTrail, head.Number, head.Number+1)
	case v.link.Number == head.Number && v.link != head:
		return fmt.Errorf("%w: entry %d is not the one of the head", keys.ErrTrail, head.Number)
	case len(page.Entries) == 0 && v.link.Number < head.Number:
		return fmt.Errorf("%w: entry %d is missing, and all after it up to the head, entry %d", keys.ErrTrail, v.link.Number+1, head.Number)
	}
	return nil
}

// compare says whether the trail, which is whole, passes through the known link.
func (v *verification) compare() error {
	switch {
	case v.known == (keys.Link{}) || v.passed:
		return nil
	case v.known.Number > v.link.Number:
		return v.explain(fmt.Errorf("%w: entry %d, that of --head, is missing: the trail ends with entry %d", keys.ErrTrail, v.known.Number, v.link.Number))
	case v.known.Number == v.anchor.Number:
		return v.explain(fmt.Errorf("%w: entry %d, the last that was trimmed, is not the one of --head", keys.ErrTrail, v.known.Number))
	}
	return fmt.Errorf("entry %d, that of --head, is no longer kept, so nothing can be said about it: the trail begins with entry %d and is whole from there; raise audit.keep, or verify more often",
		v.known.Number, v.anchor.Number+1)
}

// explain adds what is still sound.
func (v *verification) explain(err error) error {
	if !errors.Is(err, keys.ErrTrail) {
		return err
	}
	sound := "no entry before it is kept"
	if v.link.Number > v.anchor.Number {
		sound = fmt.Sprintf("entries %d to %d are one chain", v.anchor.Number+1, v.link.Number)
	}
	return fmt.Errorf("%w; %s: compare the rest with a backup of the store, or the logs", err, sound)
}

func (v *verification) report() verifyReport {
	return verifyReport{v.link.Number - v.anchor.Number, v.anchor, v.link}
}

func (v *verification) text() string {
	which := "none is kept"
	if v.link.Number > v.anchor.Number {
		which = fmt.Sprintf("%d to %d, none changed and none missing", v.anchor.Number+1, v.link.Number)
	}
	return fmt.Sprintf("verified %d entries: %s\nhead %s\nKeep the head elsewhere, and give it the next time as --head.\n",
		v.report().Entries, which, linkText(v.link))
}
