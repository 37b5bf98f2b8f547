package sim

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/go-json-experiment/json"
)

// keptFor is how long events are listed, in seconds: 30 days, as at Stripe.
const keptFor = 30 * 24 * 3600

// tree is an object as JSON that can be changed.
type tree = map[string]any

// emit makes an event of what an object is now, at the time of its clock.
func (s *Server) emit(kind string, at Stamp, object identified) {
	s.add(kind, at, object, s.render(object, s.eventVersion()), nil)
}

// emitChange is emit with what was otherwise before, which [Server.before]
// gave. Where nothing was, there is no event.
func (s *Server) emitChange(kind string, at Stamp, object identified, before tree) {
	after := s.render(object, s.eventVersion())
	if changed := differences(before, after); len(changed) > 0 {
		s.add(kind, at, object, after, changed)
	}
}

// before is an object for emitChange, from before it changes.
func (s *Server) before(object identified) tree { return s.render(object, s.eventVersion()) }

func (s *Server) add(kind string, at Stamp, object identified, now, previous tree) {
	e := &Event{
		Base:       s.base("evt", "event", at, object.base().Livemode),
		APIVersion: s.eventVersion(), Request: s.cause, Type: kind,
		born: s.o.Now().Unix(), subject: *object.base(),
	}
	e.Data.Object = marshal(now)
	if previous != nil {
		e.Data.PreviousAttributes = marshal(previous)
	}
	s.fresh = append(s.fresh, e)
}

// commit lists the events of a call and hands them to delivery, when all that
// the call does is done. It also drops those that are too old.
func (s *Server) commit() {
	old := s.o.Now().Unix() - keptFor
	for len(s.events) > 0 && s.events[0].born < old {
		delete(s.byID, s.events[0].ID)
		s.events = s.events[1:]
	}
	for _, e := range s.fresh {
		put(s, &s.events, e)
		s.dispatch(e)
	}
	s.fresh = nil
}

func (c *call) listEvents() (any, *Failure) {
	kinds := c.form.all("types")
	if kind := c.form.text("type"); kind != "" {
		kinds = append(kinds, kind)
	}
	if len(kinds) > 20 {
		c.form.refuse(invalid("types", "", "You may only specify up to 20 event types."))
	}
	const end = 1 << 62
	from := max(c.form.number("created[gte]", 0), c.form.number("created[gt]", -1)+1)
	until := min(c.form.number("created[lte]", end), c.form.number("created[lt]", end)-1)
	if c.form.has("created") {
		from = c.form.number("created", 0)
		until = from
	}
	all := !c.form.has("delivery_success")
	success := c.form.flag("delivery_success", false)
	return page(c, c.events, func(e *Event) bool {
		at := int64(e.Created)
		return at >= from && at <= until && (len(kinds) == 0 || slices.Contains(kinds, e.Type)) &&
			(all || success == (e.PendingWebhooks == 0))
	})
}

// render is an object in a version of the API.
func (s *Server) render(object any, version string) tree {
	var t tree
	if err := json.Unmarshal(marshal(object), &t); err != nil {
		panic(err) // lists and objects are objects
	}
	if version < flattened {
		s.age(t)
	}
	return t
}

// differences is what of before is otherwise after, which is how Stripe tells
// what has changed: parts of objects, and lists as a whole.
func differences(before, after tree) tree {
	changed := tree{}
	for name, old := range before {
		was, isTree := old.(tree)
		now, stays := after[name].(tree)
		if isTree && stays {
			if inside := differences(was, now); len(inside) > 0 {
				changed[name] = inside
			}
		} else if !reflect.DeepEqual(old, after[name]) {
			changed[name] = old
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			changed[name] = nil
		}
	}
	return changed
}

// thin is the event as the newer kind of webhook tells it: what happened to
// which object, and not how that is now.
func (e *Event) thin() []byte {
	return marshal(tree{
		"id": "evt_thin" + e.ID[len("evt"):], "object": "v2.core.event", "type": "v1." + e.Type,
		"created": e.Created.time().Format("2006-01-02T15:04:05.000Z"), "livemode": e.Livemode, "context": nil,
		"reason": tree{"type": "request", "request": e.Request}, "snapshot_event": e.ID,
		"related_object": tree{"id": e.subject.ID, "type": e.subject.Object, "url": "/v1/" + e.subject.Object + "s/" + e.subject.ID},
	})
}

// eventVersion is the version of events that are made now.
func (s *Server) eventVersion() string { return cmp.Or(s.delivery.APIVersion, s.o.APIVersion) }
