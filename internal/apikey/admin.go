package apikey

import "context"

// Registry is what an operator needs beyond Store, on the database itself.
// An operator's changes name no key in by: the last key may then go, too.
type Registry interface {
	Store
	// KeyOwner finds a key, revoked ones too, by its id or its prefix, or
	// returns fault.NotFound.
	KeyOwner(ctx context.Context, idOrPrefix string) (customerID, id string, err error)
}
