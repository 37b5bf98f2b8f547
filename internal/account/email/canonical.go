package email

import (
	"cmp"
	"strings"
)

// provider is what a mail provider is known to do with the local part. All of
// those listed ignore its case and what follows a "+".
type provider struct {
	ignores string // characters that make no difference to it
	same    string // the domain that has the same mailboxes; empty: only itself
}

// providers holds the domains whose folding is known, by lower-case A-label.
// A domain that is not here keeps its dots and tags: to merge two people's
// mailboxes locks one of them out, while to miss a fold costs one more trial.
// So domains of one provider are merged only where it says that every mailbox
// is at both: hotmail.com and live.com, or proton.me and pm.me, are not.
var providers = knownProviders(
	// googlemail.com was Gmail's name in Germany and the United Kingdom.
	// Source: Gmail Help, "Dots don't matter in Gmail addresses".
	known{"gmail.com googlemail.com", provider{ignores: ".", same: "gmail.com"}},

	// Source: Proton, "How to change your username": "." "_" and "-" are
	// transparent, and no variation can be another account's; its own web
	// client compares addresses so (WebClients, canonizeEmail).
	known{"proton.me protonmail.com protonmail.ch pm.me", provider{ignores: "._-"}},

	// Outlook.com takes +tags since September 2013; dots count. The country
	// domains are the undoubted ones of validator.js, normalizeEmail.
	known{"outlook.com hotmail.com live.com msn.com", provider{}},
	known{"hotmail.be hotmail.ca hotmail.co.uk hotmail.com.ar hotmail.com.au hotmail.com.br hotmail.de " +
		"hotmail.dk hotmail.es hotmail.fr hotmail.it", provider{}},
	known{"live.be live.co.uk live.com.ar live.com.mx live.de live.fr live.it live.nl", provider{}},
	known{"outlook.at outlook.be outlook.cl outlook.co.il outlook.co.nz outlook.co.th outlook.com.ar " +
		"outlook.com.au outlook.com.br outlook.com.gr outlook.com.pe outlook.com.tr outlook.com.vn outlook.cz " +
		"outlook.de outlook.dk outlook.es outlook.fr outlook.hu outlook.ie outlook.it outlook.jp outlook.kr " +
		"outlook.lv outlook.my outlook.ph outlook.pt outlook.sa outlook.sg outlook.sk", provider{}},

	// Apple's help is silent, but mail to a +tag arrives at the mailbox, as its
	// users report since 2012; validator.js and email-normalize fold it too.
	known{"icloud.com me.com mac.com", provider{}},

	// Source: Fastmail Help, "Plus addressing and subdomain addressing".
	known{"fastmail.com fastmail.fm", provider{}},

	// Source: Runbox blog, "Sub-addressing (plus addressing)".
	known{"runbox.com", provider{}},
)

// known is one row of the table above: domains, separated by spaces.
type known struct {
	domains string
	provider
}

func knownProviders(rows ...known) map[string]provider {
	m := make(map[string]provider)
	for _, row := range rows {
		for domain := range strings.FieldsSeq(row.domains) {
			m[domain] = row.provider
		}
	}
	return m
}

// fold returns the one spelling of the mailbox of a lower-case local part at
// an ASCII domain. It reports false where no mailbox is left, as of
// "+tag@gmail.com", which the provider can't have given to anyone.
func fold(local, domain string) (canonical string, ok bool) {
	p, isKnown := providers[domain]
	if !isKnown {
		return local + "@" + domain, true
	}
	local, _, _ = strings.Cut(local, "+")
	local = strings.Map(func(r rune) rune {
		if strings.ContainsRune(p.ignores, r) {
			return -1
		}
		return r
	}, local)
	if !dotAtom(local) { // "+tag" leaves nothing, "a.+tag" a dot at the end
		return "", false
	}
	return local + "@" + cmp.Or(p.same, domain), true
}
