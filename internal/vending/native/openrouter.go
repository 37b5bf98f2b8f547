package native

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"gatehouse/internal/vending"
)

const routerKeys = "/api/v1/keys"

// OpenRouter makes API keys.
type OpenRouter struct {
	client
	limit float64 // dollars
}

// NewOpenRouter returns a maker. base is scheme and host; the key is a management
// key; limit is what each key may spend, in cents, 0 for no bound.
func NewOpenRouter(base, managementKey string, limit int64) *OpenRouter {
	return &OpenRouter{newClient(base, managementKey), float64(limit) / 100}
}

// Make implements vending.Maker. OpenRouter wants the end in UTC.
func (o *OpenRouter) Make(ctx context.Context, name string, _ time.Duration, ends time.Time) (vending.Made, error) {
	in := struct {
		Name    string    `json:"name"`
		Limit   float64   `json:"limit,omitzero"`
		Expires time.Time `json:"expires_at"`
	}{name, o.limit, ends.UTC().Truncate(time.Second)}
	var out struct {
		Key  string `json:"key"`
		Data struct {
			Hash    string    `json:"hash"`
			Expires time.Time `json:"expires_at"` // null: zero
		} `json:"data"`
	}
	if err := o.create(ctx, routerKeys, in, &out); err != nil {
		return vending.Made{}, err
	}
	return made(out.Data.Hash, out.Key, out.Data.Expires.UTC())
}

// Remove implements vending.Maker.
func (o *OpenRouter) Remove(ctx context.Context, name, id string) error {
	if id != "" {
		return o.remove(ctx, routerKeys, id)
	}
	var found []string
	for seen := 0; seen < maxPages*pageSize; {
		var page struct {
			Data []struct {
				Hash string `json:"hash"`
				Name string `json:"name"`
			} `json:"data"`
		}
		if err := o.call(ctx, http.MethodGet, routerKeys+"?offset="+strconv.Itoa(seen), nil, &page); err != nil {
			return err
		}
		for _, k := range page.Data {
			if k.Name == name && k.Hash != "" {
				found = append(found, k.Hash)
			}
		}
		if len(page.Data) == 0 {
			return o.remove(ctx, routerKeys, found...)
		}
		// Keys are deleted all the while, which moves others to where was looked.
		seen += max(1, len(page.Data)-pageSize/10)
	}
	return errEndless
}
