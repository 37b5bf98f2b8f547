package app

import (
	"errors"
	"fmt"
	"strconv"

	"gatehouse/internal/settings"
	"gatehouse/internal/vending"
	"gatehouse/internal/vending/native"
)

// OpenAIKeys are how keys of OpenAI's own are made; all empty: they are not.
type OpenAIKeys struct{ AdminKey, Project, ServiceAccount string }

// OpenRouterKeys are how keys of OpenRouter's own are made; no ManagementKey: they
// are not.
type OpenRouterKeys struct {
	ManagementKey string
	Limit         int64 // of each, in cents; 0: no bound
}

// makerSettings declares what makes providers' own keys.
func (c *Config) makerSettings() []settings.Setting {
	return []settings.Setting{
		{Name: "openai-admin-api-key", Secret: true, Help: "an admin key of OpenAI's, with which credentials for openai are keys of its own that work there directly, unless a budget bounds them; not set: tokens for the gateway", Read: printable(&c.OpenAIKeys.AdminKey)},
		{Name: "openai-project", Help: "the project (proj_…) in which those keys are made; keys that are out are looked for in it, so change it when there are none", Read: printable(&c.OpenAIKeys.Project)},
		{Name: "openai-service-account", Help: "the service account, by its id there, whose those keys are", Read: printable(&c.OpenAIKeys.ServiceAccount)},
		{Name: "openrouter-management-api-key", Secret: true, Help: "a management key of OpenRouter's, likewise for credentials for openrouter", Read: printable(&c.OpenRouterKeys.ManagementKey)},
		{Name: "openrouter-key-limit", Default: "0", Help: "what each key of OpenRouter's own may spend, in cents; 0: no bound", Read: func(s string) (err error) {
			c.OpenRouterKeys.Limit, err = strconv.ParseInt(s, 10, 64)
			if err != nil || c.OpenRouterKeys.Limit < 0 || c.OpenRouterKeys.Limit > vending.MaxCents {
				return fmt.Errorf("%q: want cents, from 0 to %d", s, vending.MaxCents)
			}
			return nil
		}},
	}
}

// checkMakers says what is missing for providers' own keys.
func (c *Config) checkMakers() error {
	var wrong []error
	o := c.OpenAIKeys
	if some := o != (OpenAIKeys{}); some && (o.AdminKey == "" || o.Project == "" || o.ServiceAccount == "") {
		wrong = append(wrong, errors.New("openai-admin-api-key, openai-project and openai-service-account go together: set all three for keys of OpenAI's own, or none"))
	}
	for _, own := range []struct{ provider, key string }{{"openai", o.AdminKey}, {"openrouter", c.OpenRouterKeys.ManagementKey}} {
		if own.key != "" && c.Upstreams[own.provider].Key == "" {
			wrong = append(wrong, fmt.Errorf("%s-api-key: not set, and keys of %[1]s's own are to be made: what has a budget goes by the gateway, which needs it", own.provider))
		}
	}
	return errors.Join(wrong...)
}

// makers are what makes providers' own keys.
func (c Config) makers() map[vending.Provider]vending.Maker {
	all := make(map[vending.Provider]vending.Maker)
	if o := c.OpenAIKeys; o.AdminKey != "" {
		all[vending.OpenAI] = native.NewOpenAI(c.Upstreams["openai"].Base, o.AdminKey, o.Project, o.ServiceAccount)
	}
	if o := c.OpenRouterKeys; o.ManagementKey != "" {
		all[vending.OpenRouter] = native.NewOpenRouter(c.Upstreams["openrouter"].Base, o.ManagementKey, o.Limit)
	}
	return all
}
