package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/app"
	"gatehouse/internal/store"
)

func copyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "copy", Short: "Move a SQLite database into an empty PostgreSQL database", Args: exactly(),
		Long: `Moves all of a SQLite database into an empty PostgreSQL database, whose schema it
brings up to date. Stop the node first.

The file is fenced before anything is copied: no node serves it from then on. All
is copied in one transaction, and compared before that is committed: the rows of
each table, the sums of each column, each balance with its ledger. If anything
fails, PostgreSQL is left empty and the fence is taken away.

If the command is killed, the file stays fenced, and PostgreSQL holds all or
nothing. Then run it again: it refuses if all is there. Or, if nothing is there,
gatehouse admin unfence --database sqlite:FILE --yes lets nodes serve the file
again. Never do that while nodes serve what was copied.

The master key is not copied: nodes on PostgreSQL take it from
GATEHOUSE_MASTER_KEY. A running job is due again when its lease ends.`,
	}
	file := c.Flags().String("config", "", "YAML file of settings")
	from := c.Flags().String("from", "sqlite:gatehouse.db", "what to move: sqlite:FILE")
	to := c.Flags().String("to", "", "where to: postgres://USER@HOST/NAME; not set, or with a password: GATEHOUSE_DATABASE or GATEHOUSE_DATABASE_FILE")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		// The settings twice: as they were, and as they are to be.
		source, err := loadWith(*from, *file, "from")
		if err == nil && source.Database.File == "" {
			err = usageError{errors.New("--from: want sqlite:FILE, such as sqlite:gatehouse.db")}
		}
		if err != nil {
			return err
		}
		target, err := loadWith(*to, *file, "to")
		if err == nil && target.Database.URL == "" {
			err = usageError{errors.New("where to? want postgres://USER@HOST/NAME, by --to or GATEHOUSE_DATABASE")}
		}
		if err != nil {
			return err
		}
		last := time.Now()
		did, err := app.CopyToPostgres(c.Context(), source, target.Database.URL, func(table string, done, all int64) {
			if time.Since(last) >= backupNews {
				last = time.Now()
				say(c, "%s: %d of %d rows copied", table, done, all)
			}
		})
		if err != nil {
			return err
		}
		if err := printCopied(c, did, *from, *asJSON); err != nil {
			return err
		}
		say(c, "all that was compared is equal; no node serves %s any more", *from)
		if did.KeyFile != "" {
			say(c, "nodes on PostgreSQL read no key file: give them the key in %s as GATEHOUSE_MASTER_KEY", did.KeyFile)
		}
		if len(did.MissingKeys) > 0 {
			say(c, "answers are kept that only nodes with the master keys %s can repeat: GATEHOUSE_MASTER_KEY does not hold them here", strings.Join(did.MissingKeys, ", "))
		}
		return nil
	}
	return c
}

// loadWith reads the settings with a database that may be given by a flag of
// another name.
func loadWith(database, file, flag string) (app.Config, error) {
	flags := make(map[string]string)
	if database != "" {
		flags["database"] = database
	}
	config, _, err := app.LoadConfig(flags, os.Environ(), file)
	if err != nil {
		err = usageError{errors.New(strings.ReplaceAll(err.Error(), "flag --database", "flag --"+flag))}
	}
	return config, err
}

// summed says what was added up, by kind.
var summed = map[store.Kind]string{
	store.Text: "octets", store.Bytes: "octets", store.Int: "sum", store.Bool: "true", store.Stamps: "stamps",
}

func printCopied(c *cobra.Command, did app.Copied, from string, asJSON bool) error {
	type tableJSON struct {
		Table string            `json:"table"`
		Rows  int64             `json:"rows"`
		Sums  map[string]string `json:"sums"` // decimal: they may exceed a float's precision
	}
	all := []tableJSON{}
	t := table{header: []string{"TABLE", "COMPARED", "VALUE"}}
	for _, one := range did.Tables {
		j := tableJSON{one.Table.Name, one.Sums.Rows, make(map[string]string)}
		t.add(one.Table.Name, "rows", strconv.FormatInt(one.Sums.Rows, 10))
		for i, column := range one.Table.Columns {
			t.add(one.Table.Name, summed[column.Kind]+" of "+column.Name, one.Sums.Columns[i])
			j.Sums[column.Name] = one.Sums.Columns[i]
		}
		all = append(all, j)
	}
	t.json = map[string]any{
		"from": from, "to": did.To, "tables": all, "key_file": optionalText(did.KeyFile), "master_keys_missing": append([]string{}, did.MissingKeys...),
	}
	return t.print(c.OutOrStdout(), asJSON)
}
