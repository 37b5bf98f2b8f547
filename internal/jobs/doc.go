// Package jobs does later what a request must not wait for.
//
// A job is a row that is committed with its cause: a kind, such as
// welcome_mail, and a subject, such as a customer's id. The two are its name,
// so a cause that comes twice queues one job; what else a job needs its handler
// reads when it runs. A runner leases due jobs, runs each kind's handler and
// removes what is done. What fails is tried again, ever later; what can't
// succeed, or failed too often, is kept as dead until an operator decides.
//
// Jobs run at least once: a worker may die after the effect, and a slow one
// may go on beside the one that took its job over. Each claim of a job has a
// number, so what a worker that lost its lease has to say is ignored; and each
// effect has a unique key of its own, which is the handler's business.
//
// Of a kind the package knows the name alone, and it knows no database.
package jobs
