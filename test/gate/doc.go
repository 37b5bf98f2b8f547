// Command gate runs a command against nodes of its own: several on a PostgreSQL
// of its own, or one on SQLite, on free ports, with their data in a folder that
// goes with them. `make gate` runs the load suite so, and `make prove` kills nodes
// and stops the database meanwhile.
//
// In the command's arguments {targets}, {admin} (of each, by comma), {provider}
// and {database} stand for what the nodes have; its exit code is gate's. With
// -proved it runs nothing, and sees instead what a verification showed, as
// `make prove` does at last.
package main
