package storetest

// OlderHolds are statements of versions before, whose nodes go on serving while a
// newer one has migrated the database: first of those that know of no providers'
// keys, then of those that book nothing of a node that died.
var OlderHolds = []string{
	"INSERT INTO holds (id, grant_id, customer_id, node, micro, lapses_at) VALUES ('1', 'g', 'c', 'n', 1, 2)",
	"UPDATE holds SET lapses_at = 3 WHERE node = 'n' AND lapses_at > 1",
	"INSERT INTO holds (id, grant_id, customer_id, micro, lapses_at) VALUES ('2', 'g', 'c', 1, 2)",
	"UPDATE holds SET lapses_at = 3 WHERE id = '2' AND lapses_at > 1",
	"DELETE FROM holds WHERE customer_id = 'c' AND lapses_at <= 2",
	"DELETE FROM holds WHERE id = '1'",
}
