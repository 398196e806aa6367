/* A mutex for critical sections of a few microseconds that several CPUs want at once: who finds it taken turns round for a moment
 * before it sleeps, for going to sleep and being woken costs ten times what the holder still needs. A holder that loses its CPU
 * is waited for asleep. */
#ifndef JFS_UTIL_MUTEX_H
#define JFS_UTIL_MUTEX_H

#include <pthread.h>

void mutex_init_short(pthread_mutex_t *m);

#endif
