package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"gatehouse/internal/app"
)

func migrateCommand() *cobra.Command {
	return group("migrate", "Bring the database's schema up to date, or look at it", migrateUp(), migrateStatus(), migrateDown())
}

func migrateUp() *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "Apply what is missing", Args: exactly()}
	load := settingFlags(c.Flags(), []string{"database"})
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, _, err := load()
		if err != nil {
			return err
		}
		if err := app.MigrateUp(c.Context(), config); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), "the schema is up to date")
		return err
	}
	return c
}

func migrateStatus() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "List the migrations and which are applied", Args: exactly()}
	load := settingFlags(c.Flags(), []string{"database"})
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, _, err := load()
		if err != nil {
			return err
		}
		all, err := app.Migrations(c.Context(), config)
		if err != nil {
			return err
		}
		t := table{header: []string{"VERSION", "MIGRATION", "APPLIED"}, json: all}
		for _, m := range all {
			t.add(strconv.FormatInt(m.Version, 10), m.Name, strconv.FormatBool(m.Applied))
		}
		return t.print(c.OutOrStdout(), *asJSON)
	}
	return c
}

func migrateDown() *cobra.Command {
	c := &cobra.Command{
		Use: "down", Short: "Undo the newest migration, and lose what it held", Args: exactly(),
		Long: "Undoes the newest migration. What its tables and columns held is lost: make a\ncopy of the file first, and stop the node.",
	}
	load := settingFlags(c.Flags(), []string{"database"})
	yes := c.Flags().Bool("yes", false, "really do it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, _, err := load()
		if err != nil {
			return err
		}
		if !*yes {
			return usageError{fmt.Errorf("this loses data of %s: say --yes to do it", config.Database.Name())}
		}
		undone, err := app.MigrateDown(c.Context(), config)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "undone: %s\n", undone)
		return err
	}
	return c
}
