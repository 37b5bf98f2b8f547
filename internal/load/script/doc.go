// Package script is the code behind the plans credentials, webhooks and mixed:
// what their templates can't say, since it depends on earlier answers.
//
// It exists because a load test that sends the same request for ever measures
// refusals: an exchange needs keys of customers, a revocation something that was
// granted, an event a signature of now. So a script signs customers up before
// the run, fills the places of the plan's templates while it goes (key, token,
// credential, brief, event, signature), listens to what is answered, and
// afterwards compares what the target says with what must have happened: the
// credentials that are listed, the calls that were counted, and for each
// customer of Stripe's events the plan, state and credits.
//
// It knows the contract and none of the server's code. What a request does here
// goes by its name in the plan; see roles.
package script
