/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Generic netlink family "l45": how an agent drives the kernel tap (kernel_tap/kmod/).
 *
 * A socket of the family speaks for the network namespace it was made in. Everything but
 * L45_CMD_GET_INFO needs CAP_NET_ADMIN in the user namespace that owns that network namespace.
 * What is refused is refused whole, with the reason in the extended acknowledgement.
 *
 * Numbers are in the order of the host unless they are said to be in that of the network.
 */
#ifndef L45_NETLINK_H
#define L45_NETLINK_H

#define L45_GENL_NAME	 "l45"
#define L45_GENL_VERSION 1
#define L45_GENL_EVENTS	 "events" /* multicast group */

#define L45_SET_SIZE_MAX   16  /* customizations of one network namespace */
#define L45_CODE_NAME_SIZE 56  /* MODULE_NAME_LEN, 64 bit */
#define L45_EXECUTABLE_MAX 255 /* characters of a path */
#define L45_KEY_SIZE	   32
#define L45_NONCE_MIN	   16
#define L45_NONCE_MAX	   64
#define L45_ANSWER_SIZE	   32 /* HMAC-SHA-256 */
#define L45_DRAIN_MS_MAX   3600000

enum l45_command {
	L45_CMD_UNSPEC,
	/* do: L45_A_INFO_VERSION, L45_A_GENERATION. Anybody may. */
	L45_CMD_GET_INFO,
	/* dump: one L45_A_CODE a message. */
	L45_CMD_GET_CODE,
	/* do: make L45_A_SET the whole set of the namespace, and reply with L45_A_GENERATION.
	 * Customizations are told apart by id. Those that stay keep counters and flows; module,
	 * match, parameters, epoch, token and key of an id cannot change. Those that are gone send
	 * no more; their streams are decoded until the peer has ended them, at most L45_A_DRAIN_MS
	 * (30000 where it is left out), and are reset then. */
	L45_CMD_APPLY,
	/* dump: one L45_A_CUSTOMIZATION a message, in the order of asking; those that are being
	 * drained last. */
	L45_CMD_GET_CUSTOMIZATIONS,
	/* dump: one L45_A_FLOW a message. */
	L45_CMD_GET_FLOWS,
	/* do: L45_A_ID and L45_A_NONCE; reply: L45_A_ID, L45_A_BUILD_ID, L45_A_ANSWER, which is
	 * HMAC-SHA-256 with the customization's key over nonce, id and build id. */
	L45_CMD_CHALLENGE,
	/* Events to the group. L45_A_FLOW, with what it is and has counted, in each. */
	L45_CMD_FLOW_OPENED,
	L45_CMD_FLOW_CLOSED,
	L45_CMD_FLOW_BROKEN, /* the connection was reset: L45_A_FLOW_FAULT says why */
	/* A new set is in force: L45_A_GENERATION. */
	L45_CMD_APPLIED,
	/* A customization that was taken away is gone, with its last flow: L45_A_CUSTOMIZATION. */
	L45_CMD_REMOVED,
	L45_CMD_COUNT,
};

enum l45_attribute {
	L45_A_UNSPEC,
	L45_A_INFO_VERSION,  /* u32: L45_GENL_VERSION */
	L45_A_GENERATION,    /* u64: how many sets were applied in this namespace */
	L45_A_CODE,	     /* nested: enum l45_attribute_code */
	L45_A_SET,	     /* nested: L45_A_CUSTOMIZATION, as often as there are */
	L45_A_CUSTOMIZATION, /* nested: enum l45_attribute_customization */
	L45_A_DRAIN_MS,	     /* u32: at most L45_DRAIN_MS_MAX */
	L45_A_FLOW,	     /* nested: enum l45_attribute_flow */
	L45_A_ID,	     /* 16 bytes */
	L45_A_NONCE,	     /* L45_NONCE_MIN to L45_NONCE_MAX bytes */
	L45_A_ANSWER,	     /* L45_ANSWER_SIZE bytes */
	L45_A_BUILD_ID,	     /* bytes of the module's GNU build id, usually 20 */
	L45_A_PAD,
	L45_A_COUNT,
};

/* A module that is loaded. */
enum l45_attribute_code {
	L45_CODE_UNSPEC,
	L45_CODE_NAME,	    /* string: of the kernel module (/proc/modules), what a set names */
	L45_CODE_MODULE,    /* string: the l45 module's, as in its manifest */
	L45_CODE_KIND,	    /* u8: enum l45_kind */
	L45_CODE_SIGNATURE, /* u32 */
	L45_CODE_BUILD_ID,  /* bytes */
	L45_CODE_USERS,	    /* u32: customizations of all namespaces */
	L45_CODE_COUNT,
};

enum l45_customization_flag {
	L45_CUSTOMIZATION_SEND = 1,
	L45_CUSTOMIZATION_RECEIVE = 2,
	L45_CUSTOMIZATION_INACTIVE = 4,	  /* stays attached, and is passed over */
	L45_CUSTOMIZATION_DEPRECATED = 8, /* no new flows */
	L45_CUSTOMIZATION_DRAINING = 16,  /* said by the kernel: it was taken away */
};

enum l45_attribute_customization {
	L45_C_UNSPEC,
	/* Asked for, and told in dumps, but the last two. */
	L45_C_ID,	  /* 16 bytes */
	L45_C_CODE,	  /* string: name of the loaded kernel module */
	L45_C_MATCH,	  /* nested: enum l45_attribute_match */
	L45_C_PRIORITY,	  /* u32: at most 65535; lowest first, and among equals as in the set */
	L45_C_FLAGS,	  /* u32: enum l45_customization_flag */
	L45_C_PARAMETERS, /* at most 64 bytes */
	L45_C_EPOCH,	  /* u16: of streams */
	L45_C_TOKEN,	  /* 8 bytes: of streams */
	L45_C_KEY,	  /* L45_KEY_SIZE bytes: for challenges */
	/* Told. */
	L45_C_MODULE,	/* string */
	L45_C_FLOWS,	/* u32: sockets that have it */
	L45_C_COUNTERS, /* nested: enum l45_attribute_counter */
	L45_C_PAD,
	L45_C_COUNT,
};

/* What is left out matches all. */
enum l45_attribute_match {
	L45_M_UNSPEC,
	L45_M_PROTOCOL,		/* u8: IPPROTO_TCP or IPPROTO_UDP; must be there */
	L45_M_THREAD,		/* string of at most 15 bytes: comm */
	L45_M_PROCESS,		/* the same of the thread-group leader */
	L45_M_EXECUTABLE,	/* string: absolute path, at most L45_EXECUTABLE_MAX bytes */
	L45_M_UID,		/* u32: effective, in the initial user namespace */
	L45_M_LOCAL,		/* 16 bytes: IPv6 address, or an IPv4 address mapped into IPv6 */
	L45_M_LOCAL_PREFIX,	/* u8: 0 to 128; an IPv4 prefix is 96 longer */
	L45_M_REMOTE,		/* as L45_M_LOCAL */
	L45_M_REMOTE_PREFIX,	/* as L45_M_LOCAL_PREFIX */
	L45_M_LOCAL_PORT,	/* u16 */
	L45_M_LOCAL_PORT_LAST,	/* u16: of a range; L45_M_LOCAL_PORT is its first */
	L45_M_REMOTE_PORT,	/* u16 */
	L45_M_REMOTE_PORT_LAST, /* u16 */
	L45_M_COUNT,
};

/* u64 each: messages, but for bytes. */
enum l45_attribute_counter {
	L45_N_UNSPEC,
	L45_N_SENT,	/* customized on their way out */
	L45_N_RECEIVED, /* restored on their way in */
	L45_N_PASSED,	/* seen, and left for the next or unchanged */
	L45_N_DROPPED,
	L45_N_ERRORS,
	L45_N_TOO_BIG,	      /* unchanged, because the wire form would not fit */
	L45_N_SENT_BYTES,     /* of the application, in what was customized */
	L45_N_RECEIVED_BYTES, /* of the application, in what was restored */
	L45_N_PAD,
	L45_N_COUNT,
};

/* A socket that has customizations. */
enum l45_attribute_flow {
	L45_F_UNSPEC,
	L45_F_NUMBER,	   /* u64: unique in the namespace as long as the tap is loaded */
	L45_F_PROTOCOL,	   /* u8 */
	L45_F_LOCAL,	   /* 16 bytes, as L45_M_LOCAL */
	L45_F_REMOTE,	   /* 16 bytes; zero for a UDP socket that is not connected */
	L45_F_LOCAL_PORT,  /* u16 */
	L45_F_REMOTE_PORT, /* u16 */
	L45_F_PID,	   /* u32: thread that used it first, in the initial PID namespace */
	L45_F_TGID,	   /* u32 */
	L45_F_UID,	   /* u32 */
	L45_F_THREAD,	   /* string */
	L45_F_PROCESS,	   /* string */
	L45_F_EXECUTABLE,  /* string; not there where it is not known */
	L45_F_OPENED,	   /* u64: nanoseconds of CLOCK_REALTIME */
	L45_F_SENT,	   /* u64: the same, of the last customized message; 0: none */
	L45_F_RECEIVED,	   /* u64 */
	L45_F_TX_STATE,	   /* u8: enum l45_send_state; of streams */
	L45_F_RX_STATE,	   /* u8: enum l45_receive_state */
	L45_F_TX_CHANGES,  /* u32: marks, switches and ends sent: `changes` in the stream core */
	L45_F_RX_CHANGES,  /* u32: ... and read */
	L45_F_TX_ID,	/* 16 bytes: the customization that frames what is sent; not there: none */
	L45_F_RX_ID,	/* 16 bytes */
	L45_F_FAULT,	/* u8: enum l45_fault */
	L45_F_ATTACHED, /* nested: L45_F_CUSTOMIZATION, in the order of asking */
	L45_F_CUSTOMIZATION, /* nested: L45_C_ID, L45_C_PRIORITY, L45_C_FLAGS, L45_C_COUNTERS */
	L45_F_PAD,
	L45_F_COUNT,
};

#endif
