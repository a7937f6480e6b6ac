/* SPDX-License-Identifier: MIT */
/* Ports of tasks and of the host, reading another task's memory: see tests/darwin/darwin.h. */
#ifndef DARWIN_MACH_MACH_H
#define DARWIN_MACH_MACH_H

#include <stddef.h>
#include <stdint.h>

typedef int kern_return_t;
typedef unsigned natural_t;
typedef int integer_t;
typedef unsigned mach_port_t, mach_port_name_t, task_t, host_t, vm_map_t, mach_msg_type_number_t;
typedef int host_flavor_t;
typedef integer_t *host_info64_t;
typedef uint64_t mach_vm_address_t, mach_vm_size_t;
typedef uintptr_t vm_size_t, vm_address_t, vm_offset_t;

#define MACH_PORT_NULL          0u
#define KERN_SUCCESS            0
#define KERN_INVALID_ADDRESS    1
#define KERN_PROTECTION_FAILURE 2
#define KERN_INVALID_ARGUMENT   4
#define KERN_FAILURE            5
#define KERN_INVALID_NAME       15
#define KERN_INVALID_TASK       16
#define KERN_TERMINATED         37
#define MACH_SEND_INVALID_DEST  0x10000003

struct vm_statistics64 {
	natural_t free_count, active_count, inactive_count, wire_count;
	uint64_t zero_fill_count, reactivations, pageins, pageouts, faults, cow_faults, lookups, hits, purges;
	natural_t purgeable_count, speculative_count;
	uint64_t decompressions, compressions, swapins, swapouts;
	natural_t compressor_page_count, throttled_count, external_page_count, internal_page_count;
	uint64_t total_uncompressed_pages_in_compressor;
};
typedef struct vm_statistics64 vm_statistics64_data_t;
typedef vm_statistics64_data_t *vm_statistics64_t;

#define HOST_VM_INFO64       4
#define HOST_VM_INFO64_COUNT ((mach_msg_type_number_t)(sizeof(vm_statistics64_data_t) / sizeof(integer_t)))

extern vm_size_t vm_page_size, vm_kernel_page_size;

mach_port_t mach_task_self(void);
mach_port_t mach_host_self(void);
kern_return_t mach_port_deallocate(mach_port_t task, mach_port_name_t name);
kern_return_t task_for_pid(mach_port_t self, int pid, mach_port_name_t *task);
kern_return_t mach_vm_read_overwrite(vm_map_t task, mach_vm_address_t from, mach_vm_size_t bytes, mach_vm_address_t to,
                                     mach_vm_size_t *got);
kern_return_t host_statistics64(host_t host, host_flavor_t flavor, host_info64_t out, mach_msg_type_number_t *count);
kern_return_t host_page_size(host_t host, vm_size_t *bytes);

#endif
