package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The format of bbolt's files (version 2), as far as verify reads it. All numbers are
// in the machine's own order, as bbolt writes them.
const (
	pageHeader  = 16 // id uint64, flags uint16, count uint16, overflow uint32
	pageElement = 16 // branch: pos, ksize uint32, page uint64; leaf: flags, pos, ksize, vsize uint32
	pageBranch  = 0x01
	pageLeaf    = 0x02
	pageFree    = 0x10

	metaLength   = 64 // magic, version, page size, flags uint32, then uint64s as in boltMeta
	metaMagic    = 0xED0CDAED
	metaFormat   = 2
	leafIsBucket = 1
	bucketHeader = 16 // root page, sequence uint64; a page follows if root is 0
	noFreelist   = ^uint64(0)

	deepest = 40 // levels of pages; bbolt needs a handful for a billion keys
)

// verifier walks the pages of a bbolt file. It exists because bbolt trusts what it
// reads: a page that leads to itself exhausts its stack, which ends the process and
// cannot be recovered from, and a free list of any length is allocated. What verify
// has found sound, bbolt can read.
type verifier struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64 // how many there are
	seen     []bool
	buffers  [deepest][]byte // one for each level
}

// boltMeta is what a meta page says.
type boltMeta struct{ root, freelist, pages, transaction uint64 }

// verify returns an error unless every page that can be reached from the newest meta
// page is sound. whole is false when one of the two meta pages is damaged: bbolt
// goes by the other, which may lack the last change.
func verify(file io.ReaderAt, size int64, pageSize int) (whole bool, err error) {
	v := &verifier{file: file, pageSize: uint64(pageSize)}
	first, err0 := v.meta(0)
	second, err1 := v.meta(1)
	newest := first
	switch {
	case err0 != nil && err1 != nil:
		return false, errors.Join(err0, err1)
	case err0 != nil || err1 == nil && second.transaction > first.transaction:
		newest = second
	}
	v.pages = newest.pages
	if v.pages > uint64(size)/v.pageSize {
		return false, fmt.Errorf("it is shorter than the %d pages it should have", v.pages)
	}
	v.seen = make([]bool, v.pages)
	if err := v.claim(0, 2); err != nil {
		return false, err
	}
	if err := v.freelist(newest.freelist); err != nil {
		return false, err
	}
	return err0 == nil && err1 == nil, v.tree(newest.root, 0, nil, nil)
}

func (v *verifier) meta(page uint64) (boltMeta, error) {
	var text [metaLength]byte
	if _, err := v.file.ReadAt(text[:], int64(page*v.pageSize+pageHeader)); err != nil {
		return boltMeta{}, err
	}
	at := binary.NativeEndian
	sum := fnv.New64a()
	_, _ = sum.Write(text[:metaLength-8])
	if at.Uint32(text[0:]) != metaMagic || at.Uint32(text[4:]) != metaFormat || at.Uint64(text[56:]) != sum.Sum64() {
		return boltMeta{}, fmt.Errorf("meta page %d is not valid", page)
	}
	return boltMeta{
		root: at.Uint64(text[16:]), freelist: at.Uint64(text[32:]),
		pages: at.Uint64(text[40:]), transaction: at.Uint64(text[48:]),
	}, nil
}

// claim marks n pages as belonging to one thing, and fails if another has them.
func (v *verifier) claim(id, n uint64) error {
	if id >= v.pages || n > v.pages-id {
		return fmt.Errorf("page %d is beyond the last", id)
	}
	for i := id; i < id+n; i++ {
		if v.seen[i] {
			return fmt.Errorf("page %d is used twice", i)
		}
		v.seen[i] = true
	}
	return nil
}

// read claims a page and returns it with the pages that continue it.
func (v *verifier) read(id uint64, level int) ([]byte, error) {
	var header [pageHeader]byte
	if id >= v.pages {
		return nil, fmt.Errorf("page %d is beyond the last", id)
	}
	if _, err := v.file.ReadAt(header[:], int64(id*v.pageSize)); err != nil {
		return nil, err
	}
	if binary.NativeEndian.Uint64(header[:]) != id {
		return nil, fmt.Errorf("page %d says that it is another", id)
	}
	n := uint64(binary.NativeEndian.Uint32(header[12:])) + 1
	if err := v.claim(id, n); err != nil {
		return nil, err
	}
	if length := n * v.pageSize; uint64(cap(v.buffers[level])) < length {
		v.buffers[level] = make([]byte, length)
	}
	page := v.buffers[level][:n*v.pageSize]
	_, err := v.file.ReadAt(page, int64(id*v.pageSize))
	return page, err
}

func pageFlags(page []byte) uint16 { return binary.NativeEndian.Uint16(page[8:]) }
func pageCount(page []byte) int    { return int(binary.NativeEndian.Uint16(page[10:])) }

// freelist claims every page that is listed as free.
func (v *verifier) freelist(id uint64) error {
	if id == noFreelist {
		return nil
	}
	page, err := v.read(id, 0)
	if err != nil {
		return err
	}
	ids, count := page[pageHeader:], uint64(pageCount(page))
	if count == 0xFFFF { // then the first entry is the count
		count = binary.NativeEndian.Uint64(ids)
		ids = ids[8:]
	}
	if pageFlags(page) != pageFree || count > uint64(len(ids))/8 {
		return fmt.Errorf("page %d is no list of free pages", id)
	}
	for i := range count {
		if err := v.claim(binary.NativeEndian.Uint64(ids[i*8:]), 1); err != nil {
			return err
		}
	}
	return nil
}

// tree verifies a page and those below it. Its first key is low and all are below high, if
// these are not nil: bbolt finds a page in the one above by its first key, and would lead
// to it twice if that were another.
func (v *verifier) tree(id uint64, level int, low, high []byte) error {
	if level >= deepest {
		return fmt.Errorf("page %d is too deep", id)
	}
	page, err := v.read(id, level)
	if err != nil {
		return err
	}
	switch pageFlags(page) {
	case pageBranch:
		err = v.branch(page, level, low, high)
	case pageLeaf:
		err = v.leaf(page, level, low, high)
	default:
		err = errors.New("unknown kind of page")
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (v *verifier) branch(page []byte, level int, low, high []byte) error {
	count := pageCount(page)
	if count == 0 {
		return errors.New("it leads nowhere")
	}
	elements, err := elementsOf(page, count)
	if err != nil {
		return err
	}
	if err := beginsWith(elements, low); err != nil {
		return err
	}
	for i, e := range elements {
		if err := e.between(low, high); err != nil {
			return err
		}
		next := high
		if i+1 < count {
			next = elements[i+1].key
		}
		if err := v.tree(e.page, level+1, e.key, next); err != nil {
			return err
		}
		low = append(bytes.Clone(low), 0) // the next key is greater
	}
	return nil
}

func (v *verifier) leaf(page []byte, level int, low, high []byte) error {
	elements, err := elementsOf(page, pageCount(page))
	if err != nil {
		return err
	}
	if err := beginsWith(elements, low); err != nil {
		return err
	}
	for i, e := range elements {
		if err := e.between(low, high); err != nil {
			return err
		}
		if i > 0 && bytes.Equal(e.key, low) || len(e.key) == 0 {
			return errors.New("keys are out of order")
		}
		low = e.key
		if e.flags == leafIsBucket {
			if err := v.bucket(e.value, level); err != nil {
				return err
			}
		} else if e.flags != 0 {
			return errors.New("unknown kind of entry")
		}
	}
	return nil
}

// bucket verifies what an entry for a bucket leads to: a tree, or a page inside it.
func (v *verifier) bucket(value []byte, level int) error {
	if len(value) < bucketHeader {
		return errors.New("a bucket is too short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return v.tree(root, level+1, nil, nil)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || pageFlags(inline) != pageLeaf || level+1 >= deepest {
		return errors.New("a bucket has no page")
	}
	return v.leaf(inline, level+1, nil, nil)
}

// element is one entry of a branch or a leaf.
type element struct {
	key, value []byte
	page       uint64 // of a branch
	flags      uint32 // of a leaf
}

// beginsWith returns an error unless the first key is low, if that is not nil.
func beginsWith(elements []element, low []byte) error {
	if low != nil && len(elements) > 0 && !bytes.Equal(elements[0].key, low) {
		return errors.New("its first key is not the one that leads to it")
	}
	return nil
}

func (e element) between(low, high []byte) error {
	if low != nil && bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
		return errors.New("keys are out of order")
	}
	return nil
}

// elementsOf returns the entries of a page. They lie in it.
func elementsOf(page []byte, count int) ([]element, error) {
	elements := make([]element, count)
	for i := range elements {
		start := pageHeader + i*pageElement
		if start+pageElement > len(page) {
			return nil, errors.New("it has more entries than room")
		}
		header := page[start:]
		at := binary.NativeEndian
		var position, key, value uint64
		if pageFlags(page) == pageBranch {
			position, key = uint64(at.Uint32(header)), uint64(at.Uint32(header[4:]))
			elements[i].page = at.Uint64(header[8:])
		} else {
			elements[i].flags = at.Uint32(header)
			position, key = uint64(at.Uint32(header[4:])), uint64(at.Uint32(header[8:]))
			value = uint64(at.Uint32(header[12:]))
		}
		if position+key+value > uint64(len(header)) {
			return nil, errors.New("an entry leads out of it")
		}
		elements[i].key = header[position : position+key]
		elements[i].value = header[position+key : position+key+value]
	}
	return elements, nil
}
