/* See fs_ghost.h. */
#include "daemon/fs_ghost.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ghost_add(struct ghosts *g, uint64_t ino, const struct inode_val *v, const void *target, size_t len)
{
	struct ghost *n = malloc(sizeof(*n) + len), **slot = &g->slot[ino % GHOST_SLOTS];

	if (!n)
		return -ENOMEM;
	*n = (struct ghost){ .next = *slot, .ino = ino, .v = *v, .target_len = len };
	if (len)
		memcpy(n->target, target, len);
	*slot = n;
	g->n++;
	return 0;
}

const struct ghost *ghost_find(const struct ghosts *g, uint64_t ino)
{
	const struct ghost *n = g->n ? g->slot[ino % GHOST_SLOTS] : NULL;

	while (n && n->ino != ino)
		n = n->next;
	return n;
}

void ghost_drop(struct ghosts *g, uint64_t ino)
{
	for (struct ghost **at = &g->slot[ino % GHOST_SLOTS]; *at; at = &(*at)->next)
		if ((*at)->ino == ino) {
			struct ghost *n = *at;

			*at = n->next;
			free(n);
			g->n--;
			return;
		}
}

bool ghosts_full(const struct ghosts *g)
{
	return g->n >= GHOST_MAX;
}

void ghosts_fini(struct ghosts *g)
{
	for (size_t i = 0; i < GHOST_SLOTS; i++)
		while (g->slot[i])
			ghost_drop(g, g->slot[i]->ino);
}
