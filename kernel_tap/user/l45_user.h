/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The target `user`: build/user/libl45.so runs modules (build/user/NAME.so, which export
 * `l45_module`) on datagrams, and is a tap for streams without sockets.
 */
#ifndef L45_USER_H
#define L45_USER_H

#include <stream.h>

/*
 * Datagrams. Nothing is kept between calls; several threads may call at once.
 */

#define L45_MESSAGE_MAX 65507 /* payload of the longest UDP datagram over IPv4 */

enum l45_direction {
	L45_SEND,
	L45_RECV,
};

/* What a customization knows besides the message. */
struct l45_user_context {
	const char *process;	/* owner of the socket; NULL or "" where it is not known */
	const __u8 *parameters; /* as wire.manifest.pack_parameters makes them; at most 64 bytes */
	__u32 parameters_size;
	__u32 limit; /* longest message that fits the path; 0 for L45_MESSAGE_MAX */
};

/*
 * Run the module on the message of `in_size` bytes in `in`. `*out_size` is what `out` can hold and
 * becomes the size of the result there; `in` and `out` may be the same.
 *
 * Returns the verdict (enum l45_verdict): with L45_DONE the result is the module's, with L45_DROP
 * it is empty, otherwise it is the message unchanged. A module that changed a message and then
 * answers anything but L45_DONE loses it (L45_DROP). Or returns, with no result, -EINVAL for an
 * unknown direction, too many parameters or a module for streams, -EMSGSIZE for a message over the
 * limit, -ENOBUFS where the result does not fit `out`, -ENOMEM.
 */
int l45_user_run(const struct l45_module *module, const struct l45_user_context *context,
		 enum l45_direction direction, const __u8 *in, __u32 in_size, __u8 *out,
		 __u32 *out_size);

/*
 * Streams. An endpoint is one end of a connection: it turns an application's writes into frames,
 * and bytes of the transport into what the application reads. Who uses it has the socket, or none.
 * One thread at a time. Its functions return as those of stream.h do.
 */

#define L45_ENDPOINT_WIRE 65536 /* bytes of the transport that wait to be read */

struct l45_endpoint;

/* NULL where there is no memory. `process` may be NULL. */
struct l45_endpoint *l45_endpoint_new(enum l45_role role, const char *process);
void l45_endpoint_free(struct l45_endpoint *endpoint);

/* The flow, for the functions of stream.h. */
struct l45_flow *l45_endpoint_flow(struct l45_endpoint *endpoint);

/* enum l45_send_state or l45_receive_state, and why it is broken (enum l45_fault). */
int l45_endpoint_state(const struct l45_endpoint *endpoint, enum l45_direction direction);
int l45_endpoint_fault(const struct l45_endpoint *endpoint, enum l45_direction direction);

/* Marks, switches and ends that were sent, or read. */
__u32 l45_endpoint_changes(const struct l45_endpoint *endpoint, enum l45_direction direction);

/* Attach a copy of `instance`; returns the copy, to be named in l45_flow_set and
 * l45_endpoint_detach, or NULL with errno. */
const struct l45_instance *l45_endpoint_attach(struct l45_endpoint *endpoint,
					       const struct l45_instance *instance, __u32 priority,
					       __u8 switches);
int l45_endpoint_detach(struct l45_endpoint *endpoint, const struct l45_instance *instance);

/* One frame of what the application writes: send `frame->head`, then `frame->body`, which is in
 * `app` or good until the next call; then call again with what it did not take. */
int l45_endpoint_send(struct l45_endpoint *endpoint, const __u8 *app, __u32 size,
		      struct l45_frame *frame);

/* Where the transport's next bytes are to be put, and at most how many. */
__u8 *l45_endpoint_space(struct l45_endpoint *endpoint, __u32 *size);
void l45_endpoint_filled(struct l45_endpoint *endpoint, __u32 size);

/* The transport has ended. */
void l45_endpoint_ended(struct l45_endpoint *endpoint);

/* Up to `room` of the bytes that the application can read now; returns how many. 0: none until more
 * arrives or time passes. -ENODATA: none ever again. -EPROTO: the peer broke the format. */
int l45_endpoint_read(struct l45_endpoint *endpoint, __u8 *app, __u32 room);

#endif
