// What KVM knows of a virtual CPU that cannot go on: for crash reports only.
#ifndef MV_HVM_DETAILS_H
#define MV_HVM_DETAILS_H

#include "hvm/hvm.h"

enum { HVM_ERROR_WORDS = 16 };

struct hvm_details {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_vcpu_events events; // an exception on its way, if KVM tells
    uint32_t reason;               // of the last exit, as KVM numbers them
    uint64_t suberror;             // of an internal error, or the reason that entry failed
    unsigned words;                // of `word`: what KVM adds to an internal error
    uint64_t word[HVM_ERROR_WORDS];
};

// Read all of it, on the thread that runs the virtual CPU. What cannot be read is zero.
void hvm_vcpu_examine(struct hvm_vcpu *vcpu, struct hvm_details *ret);

// True if the state is that of a processor in long mode. After a shutdown a KVM may have reset it.
bool hvm_details_usable(const struct hvm_details *details);

// A few words for an exit with which a virtual CPU cannot go on.
const char *hvm_exit_name(struct hvm_exit exit);

#endif
