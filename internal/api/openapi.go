package api

import (
	_ "embed"
	"fmt"
	"net/http"
	"sync"

	"github.com/goccy/go-yaml"
)

//go:embed openapi.yaml
var openapiYAML []byte

// OpenAPI returns the API's description as OpenAPI 3.1, in JSON.
var OpenAPI = sync.OnceValues(func() ([]byte, error) {
	doc, err := yaml.YAMLToJSON(openapiYAML)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return doc, nil
})

func (a *API) openapi(x *exchange) error {
	doc, err := OpenAPI()
	if err != nil {
		return err
	}
	x.Header()["Content-Type"] = jsonType
	x.WriteHeader(http.StatusOK)
	_, _ = x.Write(doc) // the client may have left
	return nil
}
