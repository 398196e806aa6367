/* META-URL: where a volume's Redis is, and how to treat it (spec/juicefs-format.md 2.1).
 *
 *   redis://[user][:password]@host[:port][/db][?options]     a bare host[:port][/db] means the same; rueidis:// too
 *   redis://[user][:password]@master,sentinel1,sentinel2[:port][/db]
 *   unix://[user][:password@]/path/of/socket[?db=N]
 *
 * TLS and Cluster are refused. Passwords given in the URL win over those in the environment. Nothing here does I/O,
 * except that rds_url_env reads the file named by META_PASSWORD_FILE. */
#ifndef JFS_REDIS_URL_H
#define JFS_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

#define RDS_SENTINELS_MAX 8

enum rds_mode {
	RDS_SAFE_BATCH,	  /* replay by fenced scripts (the default) */
	RDS_UNSAFE_BATCH, /* replay by bare pipelines */
	RDS_SYNC,	  /* safe_batch=0: every operation waits until its script was applied */
};

struct rds_host {
	char name[256];
	uint16_t port;
};

struct rds_url {
	char user[128], password[512], sentinel_password[512];
	char unix_path[108];   /* "" unless unix:// */
	struct rds_host host;  /* unless Sentinel or unix:// */
	char master[128];      /* Sentinel's name of the master, "" without Sentinel */
	struct rds_host sentinels[RDS_SENTINELS_MAX];
	unsigned sentinel_count;
	unsigned db;

	enum rds_mode mode;
	uint64_t batch_size;	    /* commands a script at most; 2000 */
	uint64_t batch_bytes;	    /* 1 MiB */
	uint64_t batch_interval_ns; /* how long to gather; 50 ms */
	uint64_t inode_batch;	    /* ids a range; 1,000,000 */
	bool metaprime;		    /* fetch id ranges ahead; true */
	bool prime;		    /* load the whole tree at mount; false */

	uint64_t connect_timeout_ns, read_timeout_ns, write_timeout_ns; /* 5 s, 30 s, 5 s */
	uint64_t max_retries;					       /* 10 */
	uint64_t min_backoff_ns, max_backoff_ns;		       /* 20 ms, 10 s */
};

/* Parses `text`. -EINVAL (malformed, unknown or contradictory parameter) or -ENOTSUP (TLS, Cluster, another engine)
 * with a message that never contains the password. */
int rds_url_parse(const char *text, struct rds_url *u, struct errmsg *e);
/* Fills in what the URL did not give: REDIS_PASSWORD, META_PASSWORD, the first line of META_PASSWORD_FILE;
 * SENTINEL_PASSWORD. -errno when that file cannot be read. */
int rds_url_env(struct rds_url *u, struct errmsg *e);
/* The address without password and parameters: "redis://host:6379/1", "unix:///run/redis.sock?db=2". Cut if longer than
 * size. */
void rds_url_show(const struct rds_url *u, char *out, size_t size);
/* Any text that may be a META-URL, well-formed or not, with what may be a password replaced by "****". */
void rds_url_redact(const char *text, char *out, size_t size);
/* The same in place, by overwriting the password with 'x': for argv. */
void rds_url_scrub(char *text);

#endif
