package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
	"gatehouse/internal/mail"
	"gatehouse/internal/stripe"
	"gatehouse/internal/telemetry"
	"gatehouse/internal/vending"
)

// newRunner returns a runner of the kinds of jobs whose means are configured.
func newRunner(c Config, store Store, intake *billing.Intake, fixes *billing.Fixes, credentials *vending.Service, payments *stripe.Client, metrics *telemetry.Metrics, now func() time.Time, log *slog.Logger) *jobs.Runner {
	handlers := make(map[jobs.Kind]jobs.Handler)
	if c.SMTP != nil {
		handlers[jobs.WelcomeMail] = account.WelcomeMail(store, mail.New(*c.SMTP, *c.MailFrom))
	}
	if c.takesEvents() {
		handlers[jobs.StripeEvent] = billing.NewProcessor(store, stripe.ParseEvent, c.Catalogue, provider(payments), now, log, countEvents(metrics)).Handle
	}
	if payments != nil {
		handlers[jobs.StripeCustomer] = account.StripeCustomer(store, payments, now)
		handlers[jobs.FixCharge] = fixes.ChargeJob
		handlers[jobs.StripeReconcile] = billing.NewReconciler(store, intake, payments, c.ReconcileEvery, now, log, metrics.EventsMissed).Handle
	}
	if credentials.MakesKeys() {
		handlers[jobs.ProviderKey] = func(ctx context.Context, j jobs.Job) error { return credentials.EndKey(ctx, j.Subject) }
	}
	return jobs.NewRunner(store, handlers, log, jobs.Observer{
		Tried:   func(k jobs.Kind, o jobs.Outcome, took time.Duration) { metrics.JobTried(string(k), string(o), took) },
		Counted: func(s jobs.Stat) { metrics.Jobs(string(s.Kind), s.Queued, s.Dead, s.Oldest) },
	})
}

// provider is nobody where there is no client.
func provider(c *stripe.Client) billing.Provider {
	if c == nil {
		return nil
	}
	return c
}

// countEvents counts what becomes of events. Types without an effect, of which
// there are hundreds, become one series.
func countEvents(metrics *telemetry.Metrics) func(kind string, state billing.EventState) {
	return func(kind string, state billing.EventState) {
		if !stripe.HasEffect(kind) {
			kind = "other"
		}
		metrics.Event(kind, string(state))
	}
}

// takesEvents says whether Stripe's events come in, by whatever way.
func (c Config) takesEvents() bool { return c.WebhookSecrets.Any() || c.StripeKey != nil }

// followUps are the jobs that a sign-up queues.
func followUps(r *jobs.Runner) (kinds []jobs.Kind) {
	for _, kind := range []jobs.Kind{jobs.StripeCustomer, jobs.WelcomeMail} {
		if _, ok := r.Handlers()[kind]; ok {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// tendEvery is how often the inbox is looked after, at most.
const tendEvery = 30 * time.Second

// tend has parked events tried again whose wait is over, and the reconciler run
// when it is time.
func (a *App) tend(ctx context.Context) {
	if !a.config.takesEvents() {
		return
	}
	for {
		_, parked, err := a.store.Revisit(ctx)
		if err == nil {
			a.metrics.Parked(parked.Waiting, parked.Stuck)
		}
		if a.config.StripeKey != nil {
			err = errors.Join(err, a.store.QueueReconcile(ctx, a.config.ReconcileEvery))
		}
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "the inbox of Stripe's events could not be looked after", "err", err)
		}
		select {
		case <-time.After(min(tendEvery, a.config.ReconcileEvery)):
		case <-ctx.Done():
			return
		}
	}
}

// tendKeysEvery is how long after its end a key of a provider's own is deleted, at
// most and beside what the job takes. Where nothing makes keys any more it is
// sweepEvery: what can't be deleted shows as jobs that wait.
const tendKeysEvery = time.Second

// tendKeys has providers' own keys deleted that are revoked, past their end, or
// were never granted.
func (a *App) tendKeys(ctx context.Context) {
	every := tendKeysEvery
	if _, makes := a.jobs.Handlers()[jobs.ProviderKey]; !makes {
		every = sweepEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := sweepAll(ctx, a.store.QueueKeys); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "providers' keys that are to be deleted could not be looked for", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// waiting is what /health says of jobs. Those of kinds that are not configured
// are not overdue: announceJobs warns of them.
func waiting(r *jobs.Runner) func() (int, time.Duration, time.Duration) {
	return func() (queued int, oldest, overdue time.Duration) {
		for _, s := range r.Stats() {
			queued, oldest = queued+s.Queued, max(oldest, s.Oldest)
			if _, works := r.Handlers()[s.Kind]; works {
				overdue = max(overdue, s.Overdue)
			}
		}
		return queued, oldest, overdue
	}
}

// catchUp queues what was not queued while Stripe was not configured.
func (a *App) catchUp(ctx context.Context) {
	if a.config.StripeKey == nil {
		return
	}
	for {
		n, err := account.CatchUp(ctx, a.store, a.stripeJobs)
		if n > 0 {
			a.log.InfoContext(ctx, "customers without a Stripe customer will get one", "customers", n)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		a.log.WarnContext(ctx, "not all customers without a Stripe customer were found; trying again", "err", err)
		select {
		case <-time.After(sweepEvery):
		case <-ctx.Done():
			return
		}
	}
}

// stripeJobs is how many Stripe customers are to be made.
func (a *App) stripeJobs(ctx context.Context) (int, error) {
	stats, err := a.store.JobStats(ctx)
	i := slices.IndexFunc(stats, func(s jobs.Stat) bool { return s.Kind == jobs.StripeCustomer })
	if i < 0 {
		return 0, err
	}
	return stats[i].Queued, err
}

// announceJobs says which follow-ups of a sign-up are off, and what waits for
// ever because of that.
func (a *App) announceJobs(ctx context.Context) {
	if a.config.SMTP == nil {
		a.log.InfoContext(ctx, "no welcome mail is sent: smtp-url is not set")
	}
	if a.config.StripeKey == nil {
		a.log.InfoContext(ctx, "no Stripe customers are made, nobody is charged and events are taken as they come: stripe-api-key is not set")
	}
	if !a.config.WebhookSecrets.Any() {
		a.log.InfoContext(ctx, "no webhooks of Stripe's are taken: stripe-webhook-secrets is not set")
	}
	stats, err := a.store.JobStats(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "jobs could not be counted", "err", err)
	}
	for _, s := range stats {
		if _, ok := a.jobs.Handlers()[s.Kind]; !ok && s.Queued > 0 {
			a.log.WarnContext(ctx, "jobs wait for what is not configured", "kind", string(s.Kind), "jobs", s.Queued)
		}
	}
}
