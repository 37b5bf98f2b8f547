package main

import (
	"github.com/spf13/cobra"

	"gatehouse/internal/api"
	"gatehouse/internal/billing"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Print the effective settings and where each came from",
		Args:  exactly(),
	}
	load := settingFlags(c.Flags(), nil)
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		_, values, err := load()
		if err != nil {
			return err
		}
		t := table{header: []string{"SETTING", "VALUE", "SOURCE"}, json: values}
		for _, v := range values {
			t.add(v.Name, v.Value, v.Source)
		}
		return t.print(c.OutOrStdout(), *asJSON)
	}
	return c
}

func catalogueCommand() *cobra.Command {
	var prices *bool
	c := &cobra.Command{
		Use: "catalogue", Short: "Print the plans, prices and credits in the binary, to begin one's own with", Args: exactly(),
		Long: "Prints the catalogue in the binary. Change what it prints, save it as a file, and\nname that with the setting catalogue to sell something else.",
		RunE: func(c *cobra.Command, _ []string) error {
			text := billing.CatalogueText()
			if *prices {
				text = billing.PricesText()
			}
			_, err := c.OutOrStdout().Write(text)
			return err
		},
	}
	prices = c.Flags().Bool("prices", false, "print what AI providers ask for, for the setting prices")
	return c
}

func openapiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI 3.1 document of the API", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			doc, err := api.OpenAPI()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(doc)
			return err
		},
	}
}
