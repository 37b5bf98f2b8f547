package storetest

import (
	"fmt"
	"math/big"

	"gatehouse/internal/billing"
)

// payment is what a model knows of one.
type payment struct {
	known    bool
	refunded int64
	disputes map[string]standing
}

// standing is what a dispute was about at the most, and whether it was won.
type standing struct {
	credits int64
	won     bool
}

// sixtieth is how many of 60 credits a part of 59900 cents bought.
func sixtieth(part int64) int64 {
	return new(big.Int).Div(new(big.Int).Mul(big.NewInt(60), big.NewInt(part)), big.NewInt(59900)).Int64()
}

func (s *simulation) reverse(p *payment, r billing.Reversal) {
	before := p.countered()
	if r.Dispute == "" {
		if part := sixtieth(r.To) - sixtieth(r.From); part > 0 && !s.references[fmt.Sprintf("refund:%s:%d", r.Charge, r.To)] {
			p.refunded += part
			s.add(before-p.countered(), fmt.Sprintf("refund:%s:%d", r.Charge, r.To))
		}
		return
	}
	was, known := p.disputes[r.Dispute]
	now := standing{max(was.credits, sixtieth(r.DisputeCents)), was.won}
	if now.credits == 0 || was.won {
		return
	}
	p.disputes[r.Dispute] = now
	switch {
	case !known:
		s.add(before-p.countered(), "dispute:"+r.Dispute)
	case now.credits > was.credits:
		s.add(before-p.countered(), fmt.Sprintf("dispute:%s:%d", r.Dispute, now.credits))
	}
	if before = p.countered(); r.Won {
		now.won = true
		p.disputes[r.Dispute] = now
		s.add(before-p.countered(), "dispute_won:"+r.Dispute)
	}
}

// countered is what a payment's refunds and disputes come to, whatever their order.
func (p *payment) countered() int64 {
	sum := p.refunded
	for _, d := range p.disputes {
		if !d.won {
			sum += d.credits
		}
	}
	return min(60, sum)
}
