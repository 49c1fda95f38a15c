package store

import (
	"context"
	"fmt"

	"github.com/keysentry/keysentry/event"
)

// Prepared is a block of events in columns, ready to be sent. It is for
// measurements that want the insert alone: the Writer makes its blocks itself.
type Prepared struct{ block *eventBlock }

// Prepare copies events into columns; it keeps no memory of them.
func Prepare(events []event.Event) *Prepared {
	p := &Prepared{newEventBlock()}
	p.Add(events)
	return p
}

// Add appends events.
func (p *Prepared) Add(events []event.Event) {
	for i := range events {
		p.block.append(&events[i])
	}
}

// Rows is how many events the block holds.
func (p *Prepared) Rows() int { return p.block.rows }

// InsertPrepared sends the blocks one after the other over one connection, with
// the settings of the Writer's inserts and without its checks for what is stored
// already.
func (c *Client) InsertPrepared(ctx context.Context, blocks []*Prepared) error {
	in := newInserter(c)
	defer in.close()
	for i, p := range blocks {
		if err := in.send(ctx, &p.block.block); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
	}
	return nil
}
