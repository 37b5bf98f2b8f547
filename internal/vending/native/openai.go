package native

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gatehouse/internal/vending"
)

// OpenAI makes keys of one service account.
type OpenAI struct {
	client
	project, account string // as paths have them
}

// NewOpenAI returns a maker. base is scheme and host; the key is an admin key; the
// account is the service account's id in the project.
func NewOpenAI(base, adminKey, project, account string) *OpenAI {
	return &OpenAI{newClient(base, adminKey), "/v1/organization/projects/" + url.PathEscape(project), url.PathEscape(account)}
}

// Make implements vending.Maker. OpenAI counts whole seconds from when it makes
// the key.
func (o *OpenAI) Make(ctx context.Context, name string, life time.Duration, _ time.Time) (vending.Made, error) {
	in := struct {
		Name    string `json:"name"`
		Expires int64  `json:"expires_in_seconds"`
	}{name, int64(life / time.Second)}
	var out struct {
		ID      string `json:"id"`
		Value   string `json:"value"`
		Expires *int64 `json:"expires_at"`
	}
	if err := o.create(ctx, o.project+"/service_accounts/"+o.account+"/api_keys", in, &out); err != nil {
		return vending.Made{}, err
	}
	var expires time.Time
	if out.Expires != nil {
		expires = time.Unix(*out.Expires, 0).UTC()
	}
	return made(out.ID, out.Value, expires)
}

// Remove implements vending.Maker.
func (o *OpenAI) Remove(ctx context.Context, name, id string) error {
	path := o.project + "/api_keys"
	if id != "" {
		return o.remove(ctx, path, id)
	}
	var found []string
	query := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for range maxPages {
		var page struct {
			Data []struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"data"`
			More bool `json:"has_more"`
		}
		if err := o.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, k := range page.Data {
			if k.Name == name && k.ID != "" {
				found = append(found, k.ID)
			}
			query.Set("after", k.ID)
		}
		if !page.More || len(page.Data) == 0 {
			return o.remove(ctx, path, found...)
		}
	}
	return errEndless
}
