//! Hypercalls that change no mapping: versions, limits, error numbers.

use crate::report::Report;
use pinfold_abi::event::VIRQ_TIMER;
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};
use pinfold_abi::layout::HYPERVISOR_START;
use pinfold_abi::memory::{self, MemoryMap, Reservation};
use pinfold_abi::sched::{self, Poll};
use pinfold_abi::trap::TrapInfo;
use pinfold_abi::{domid, version};
use pinfold_guest::addr::Mfn;
use pinfold_guest::raw;

fn address<T>(thing: &mut T) -> u64 {
    core::ptr::from_mut(thing) as u64
}

fn call(op: Hypercall, args: [u64; 5]) -> i64 {
    number(op as u64, args)
}

fn number(op: u64, args: [u64; 5]) -> i64 {
    // SAFETY: every call of this file is refused, or writes to a local variable that it was given.
    unsafe { raw::call(op, args) }
}

/// Reports `xen_version`.
pub(crate) fn versions(report: &mut Report) {
    let mut text = [0u8; 1024];
    let ask = |command: u64, buffer: &mut [u8; 1024]| {
        buffer.fill(0);
        call(Hypercall::XenVersion, [command, address(buffer), 0, 0, 0])
    };
    report.call("version", ask(version::VERSION, &mut text));
    report.call("version.extra", ask(version::EXTRAVERSION, &mut text));
    report.call("version.compile_info", ask(version::COMPILE_INFO, &mut text));
    report.call("version.capabilities", ask(version::CAPABILITIES, &mut text));
    let pv = text.starts_with(b"xen-3.0-x86_64");
    report.say("version.capabilities_begin_with_pv64", pv);
    report.call("version.changeset", ask(version::CHANGESET, &mut text));
    report.call("version.platform_parameters", ask(version::PLATFORM_PARAMETERS, &mut text));
    let start = u64::from_le_bytes(text[..8].try_into().unwrap_or_default());
    report.say("version.platform_start_is_hole", start == HYPERVISOR_START);
    for (key, index) in
        [("version.features.0", 0u32), ("version.features.1", 1), ("version.features.2", 2)]
    {
        let mut info = version::FeatureInfo { submap_idx: index, submap: 0xdead };
        let result =
            call(Hypercall::XenVersion, [version::GET_FEATURES, address(&mut info), 0, 0, 0]);
        report.call(key, result);
        if index == 0 {
            // Bit 11 is for the first domain only, and bits 12 and up are not for PV guests.
            report.say("version.features.0.low", format_args!("{:#x}", info.submap & 0x7ff));
        }
    }
    report.call("version.pagesize_with_pointer", ask(version::PAGESIZE, &mut text));
    report.call("version.pagesize", call(Hypercall::XenVersion, [version::PAGESIZE, 0, 0, 0, 0]));
    report.call("version.guest_handle", ask(version::GUEST_HANDLE, &mut text));
    report.call("version.commandline", ask(version::COMMANDLINE, &mut text));
    report.call("version.unknown_11", ask(11, &mut text));
    report
        .call("version.null_version", call(Hypercall::XenVersion, [version::VERSION, 0, 0, 0, 0]));
    let hole = call(Hypercall::XenVersion, [version::EXTRAVERSION, HYPERVISOR_START, 0, 0, 0]);
    report.call("version.extra_into_hole", hole);
    let low = call(Hypercall::XenVersion, [version::EXTRAVERSION, 0x1000, 0, 0, 0]);
    report.call("version.extra_into_unmapped", low);
}

/// Reports the other calls with simple arguments.
pub(crate) fn plain(report: &mut Report) {
    for (key, op) in [
        ("call.6", 6u64),
        ("call.16", 16),
        ("call.19", 19),
        ("call.11", 11),
        ("call.49", 49),
        ("call.63", 63),
        ("call.64", 64),
        ("call.huge", u64::MAX),
    ] {
        report.call(key, number(op, [0; 5]));
    }
    report.call("call.pinfold_op_unknown", number(55, [0xffff, 0, 0, 0, 0]));

    let sched = |command: u64, arg: u64| call(Hypercall::SchedOp, [command, arg, 0, 0, 0]);
    report.call("sched.yield", sched(sched::SCHEDOP_YIELD, 0));
    report.call("sched.unknown", sched(99, 0));
    report.call("sched.shutdown_null", sched(sched::SCHEDOP_SHUTDOWN, 0x1000));
    let mut ports = [1u32; 200];
    let mut poll = |nr_ports: u32, port: u32| {
        ports.fill(port);
        // A timeout of 1 is in the past.
        let mut poll = Poll { ports: address(&mut ports), nr_ports, pad: 0, timeout: 1 };
        sched(sched::SCHEDOP_POLL, address(&mut poll))
    };
    report.call("sched.poll_0_ports", poll(0, 1));
    report.call("sched.poll_1_port_unbound", poll(1, 1));
    report.call("sched.poll_port_0", poll(1, 0));
    report.call("sched.poll_port_4095", poll(1, 4095));
    report.call("sched.poll_port_4096", poll(1, 4096));
    report.call("sched.poll_128_ports", poll(128, 1));
    report.call("sched.poll_129_ports", poll(129, 1));

    for (key, kind) in [
        ("vm_assist.0", 0u64),
        ("vm_assist.1", 1),
        ("vm_assist.2", 2),
        ("vm_assist.3", 3),
        ("vm_assist.4", 4),
        ("vm_assist.5", 5),
        ("vm_assist.6", 6),
        ("vm_assist.32", 32),
        ("vm_assist.33", 33),
        ("vm_assist.64", 64),
        ("vm_assist.huge", 1 << 32),
    ] {
        report.call(key, call(Hypercall::VmAssist, [0, kind, 0, 0, 0]));
        let off = call(Hypercall::VmAssist, [1, kind, 0, 0, 0]);
        if kind == 4 || kind == 2 || kind == 64 {
            report.call(
                if kind == 4 {
                    "vm_assist.4.off"
                } else if kind == 2 {
                    "vm_assist.2.off"
                } else {
                    "vm_assist.64.off"
                },
                off,
            );
        }
    }
    report.call("vm_assist.command_2", call(Hypercall::VmAssist, [2, 2, 0, 0, 0]));

    const NONCANONICAL: u64 = 0x0123_4567_89ab_cdef;
    let segment = |which: u64, base: u64| call(Hypercall::SetSegmentBase, [which, base, 0, 0, 0]);
    report.call("segment_base.fs", segment(0, 0x1234_5000));
    report.call("segment_base.fs_back", segment(0, 0));
    report.call("segment_base.fs_noncanonical", segment(0, NONCANONICAL));
    report.call("segment_base.fs_in_hole", segment(0, HYPERVISOR_START));
    report.call("segment_base.fs_back_2", segment(0, 0));
    report.call("segment_base.gs_user_noncanonical", segment(1, NONCANONICAL));
    report.call("segment_base.gs_kernel_noncanonical", segment(2, NONCANONICAL));
    report.call("segment_base.user_selector_bad", segment(3, 0x1ff0));
    report.call("segment_base.user_selector_0", segment(3, 0));
    report.call("segment_base.4", segment(4, 0));

    let set = |reg: u64, value: u64| call(Hypercall::SetDebugreg, [reg, value, 0, 0, 0]);
    report.call("debugreg.0", set(0, 0x1000));
    report.call("debugreg.0_in_hole", set(0, HYPERVISOR_START));
    report.call("debugreg.0_noncanonical", set(0, NONCANONICAL));
    report.call("debugreg.0_back", set(0, 0));
    report.call("debugreg.4", set(4, 0));
    report.call("debugreg.5", set(5, 0));
    report.call("debugreg.6", set(6, 0));
    report.call("debugreg.6_high", set(6, 1 << 32));
    report.call("debugreg.7", set(7, 0));
    report.call("debugreg.7_general_detect", set(7, 1 << 13));
    report.call("debugreg.7_io_breakpoint", set(7, 2 << 16 | 1));
    report.call("debugreg.7_high", set(7, 1 << 32));
    report.call("debugreg.7_back", set(7, 0));
    report.call("debugreg.8", set(8, 0));
    let get = |reg: u64| call(Hypercall::GetDebugreg, [reg, 0, 0, 0, 0]);
    report.call("debugreg.get_0", get(0));
    report.call("debugreg.get_4", get(4));
    report.call("debugreg.get_6", get(6));
    report.call("debugreg.get_7", get(7));
    report.call("debugreg.get_8", get(8));

    let trap_table = |address_of: u64| {
        let mut table = [
            TrapInfo { vector: 200, flags: 0, cs: 0xe033, pad: 0, address: address_of },
            TrapInfo::default(),
        ];
        call(Hypercall::SetTrapTable, [address(&mut table), 0, 0, 0, 0])
    };
    report.call("trap_table.plain", trap_table(0x1000));
    report.call("trap_table.noncanonical", trap_table(NONCANONICAL));
    report.call("trap_table.in_hole", trap_table(HYPERVISOR_START));
    report.call("trap_table.bad_pointer", call(Hypercall::SetTrapTable, [0x1000, 0, 0, 0, 0]));

    let mut callback = [0u64; 2];
    let mut callback_op = |command: u64, kind: u64, at: u64| {
        callback = [kind, at];
        call(Hypercall::CallbackOp, [command, address(&mut callback), 0, 0, 0])
    };
    report.call("callback.register_nmi", callback_op(0, 4, 0x1000));
    report.call("callback.unregister_nmi", callback_op(1, 4, 0));
    report.call("callback.unregister_event", callback_op(1, 0, 0));
    report.call("callback.unregister_failsafe", callback_op(1, 1, 0));
    report.call("callback.unregister_syscall", callback_op(1, 2, 0));
    report.call("callback.unregister_sysenter", callback_op(1, 5, 0));
    report.call("callback.unregister_syscall32", callback_op(1, 7, 0));
    report.call("callback.type_3", callback_op(0, 3, 0x1000));
    report.call("callback.type_8", callback_op(0, 8, 0x1000));
    report.call("callback.noncanonical", callback_op(0, 7, NONCANONICAL));
    report.call("callback.command_2", callback_op(2, 0, 0));

    report.call("stack_switch.ss_0", call(Hypercall::StackSwitch, [0, 0x1000, 0, 0, 0]));
    report.call(
        "stack_switch.code_selector",
        call(Hypercall::StackSwitch, [0xe033, 0x1000, 0, 0, 0]),
    );
    report.call(
        "stack_switch.unknown_selector",
        call(Hypercall::StackSwitch, [0x18, 0x1000, 0, 0, 0]),
    );
    report.call(
        "stack_switch.data_selector",
        call(Hypercall::StackSwitch, [0xe02b, 0x1000, 0, 0, 0]),
    );
    report.call(
        "stack_switch.noncanonical",
        call(Hypercall::StackSwitch, [0xe02b, NONCANONICAL, 0, 0, 0]),
    );
    report.call("fpu_taskswitch.1", call(Hypercall::FpuTaskswitch, [1, 0, 0, 0, 0]));
    report.call("fpu_taskswitch.0", call(Hypercall::FpuTaskswitch, [0, 0, 0, 0, 0]));
    report.call("set_timer_op.0", call(Hypercall::SetTimerOp, [0, 0, 0, 0, 0]));

    let vcpu = |command: u64, id: u64, arg: u64| call(Hypercall::VcpuOp, [command, id, arg, 0, 0]);
    report.call("vcpu.is_up_0", vcpu(3, 0, 0));
    report.call("vcpu.is_up_1", vcpu(3, 1, 0));
    report.call("vcpu.is_up_huge", vcpu(3, 1 << 20, 0));
    report.call("vcpu.initialise_0", vcpu(0, 0, 0x1000));
    report.call("vcpu.up_0", vcpu(1, 0, 0));
    report.call("vcpu.unknown", vcpu(99, 0, 0));
    report.call("vcpu.stop_periodic_timer", vcpu(7, 0, 0));
    report.call("vcpu.stop_singleshot_timer", vcpu(9, 0, 0));
    let mut single = [1u64, 1];
    report.call("vcpu.singleshot_past_future_flag", vcpu(8, 0, address(&mut single)));
    let mut runstate = 0u64;
    report.call("vcpu.runstate_area_null", vcpu(5, 0, address(&mut runstate)));
    let mut area = [Mfn::from_address(u64::MAX).0, 0];
    report.call("vcpu.register_vcpu_info_bad_frame", vcpu(10, 0, address(&mut area)));
    let mut area = [0, 0xfc8];
    report.call("vcpu.register_vcpu_info_crosses", vcpu(10, 0, address(&mut area)));

    let event = |command: u64, arg: u64| call(Hypercall::EventChannelOp, [command, arg, 0, 0, 0]);
    let mut send = 1u32;
    report.call("event.send_unbound_port", event(4, address(&mut send)));
    let mut send = 4096u32;
    report.call("event.send_port_4096", event(4, address(&mut send)));
    let mut alloc = [u32::from(domid::SELF) | u32::from(domid::SELF) << 16, 0];
    report.call("event.alloc_unbound_self", event(6, address(&mut alloc)));
    if alloc[1] != 0 {
        let mut ports = [alloc[1]; 129];
        for (key, nr_ports) in
            [("sched.poll_128_bound_ports", 128), ("sched.poll_129_bound_ports", 129)]
        {
            let mut poll = Poll { ports: address(&mut ports), nr_ports, pad: 0, timeout: 1 };
            report.call(key, sched(sched::SCHEDOP_POLL, address(&mut poll)));
        }
    }
    let mut close = alloc[1];
    report.call("event.close", event(3, address(&mut close)));
    report.call("event.close_again", event(3, address(&mut close)));
    let mut virq = [VIRQ_TIMER, 0, 0];
    report.call("event.bind_virq_timer", event(1, address(&mut virq)));
    let mut again = [VIRQ_TIMER, 0, 0];
    report.call("event.bind_virq_timer_again", event(1, address(&mut again)));
    let mut close = virq[2];
    report.call("event.close_virq", event(3, address(&mut close)));
    let mut virq = [99u32, 0, 0];
    report.call("event.bind_virq_99", event(1, address(&mut virq)));
    let mut virq = [VIRQ_TIMER, 5, 0];
    report.call("event.bind_virq_vcpu_5", event(1, address(&mut virq)));
    report.call("event.unknown", event(99, address(&mut again)));

    let console = |command: u64, count: u64, buffer: u64| {
        call(Hypercall::ConsoleIo, [command, count, buffer, 0, 0])
    };
    report.call("console.unknown", console(99, 0, 0));
    report.call("console.write_bad_pointer", console(0, 5, 0x1000));
    report.call("console.write_0", console(0, 0, 0x1000));
    let mut iopl = 1u32;
    let physdev = |command: u64, arg: u64| call(Hypercall::PhysdevOp, [command, arg, 0, 0, 0]);
    report.call("physdev.set_iopl_4", {
        let mut four = 4u32;
        physdev(6, address(&mut four))
    });
    report.call("physdev.set_iopl_1", physdev(6, address(&mut iopl)));
    iopl = 0;
    report.call("physdev.set_iopl_0", physdev(6, address(&mut iopl)));
    report.call("physdev.unknown", physdev(99, 0));
}

/// Reports `memory_op`, `multicall`, and bad pointers.
pub(crate) fn pointers(report: &mut Report) {
    let memory = |command: u64, arg: u64| call(Hypercall::MemoryOp, [command, arg, 0, 0, 0]);
    report.call("memory.unknown", memory(63, 0x1000));
    report.call(
        "memory.maximum_ram_page_positive",
        i64::from(memory(memory::MAXIMUM_RAM_PAGE, 0) <= 0),
    );
    let mut own = u64::from(domid::SELF);
    report.call(
        "memory.current_reservation_positive",
        i64::from(memory(memory::CURRENT_RESERVATION, address(&mut own)) <= 0),
    );
    let mut other = 77u64;
    report.call(
        "memory.current_reservation_of_nobody",
        memory(memory::CURRENT_RESERVATION, address(&mut other)),
    );
    report.call(
        "memory.current_reservation_bad_pointer",
        memory(memory::CURRENT_RESERVATION, 0x1000),
    );
    let mut buffer = [0u8; 2048];
    let mut map = MemoryMap { nr_entries: 100, pad: 0, buffer: address(&mut buffer) };
    report.call("memory.memory_map", memory(memory::MEMORY_MAP, address(&mut map)));
    let mut phys = [0u64; 3];
    report.call("memory.machphys_mapping", memory(memory::MACHPHYS_MAPPING, address(&mut phys)));
    report.say("memory.machphys_start", format_args!("{:#x}", phys[0]));
    report.say("memory.machphys_end", format_args!("{:#x}", phys[1]));
    let mut frames = [u64::MAX];
    let mut reservation = |extents: u64, order: u32, domain: u16, frame: u64| {
        frames[0] = frame;
        Reservation {
            extent_start: address(&mut frames),
            nr_extents: extents,
            extent_order: order,
            mem_flags: 0,
            domid: domain,
            pad: [0; 3],
        }
    };
    let mut none = reservation(0, 0, domid::SELF, 0);
    report.call("memory.decrease_none", memory(memory::DECREASE_RESERVATION, address(&mut none)));
    let mut bad = reservation(1, 0, domid::SELF, Mfn::from_address(u64::MAX).0);
    report
        .call("memory.decrease_bad_frame", memory(memory::DECREASE_RESERVATION, address(&mut bad)));
    let mut order = reservation(1, 60, domid::SELF, 0);
    report.call(
        "memory.decrease_order_60",
        memory(memory::DECREASE_RESERVATION, address(&mut order)),
    );
    let mut nobody = reservation(0, 0, 77, 0);
    report.call(
        "memory.decrease_of_nobody",
        memory(memory::DECREASE_RESERVATION, address(&mut nobody)),
    );
    report.call("memory.add_to_physmap_null", memory(memory::ADD_TO_PHYSMAP, 0x1000));

    let mut list = [MulticallEntry::default(); 4];
    list[0].op = Hypercall::XenVersion as u64;
    list[1].op = 63;
    list[2].op = Hypercall::Multicall as u64;
    list[3].op = Hypercall::XenVersion as u64;
    // SAFETY: the entries ask for the version, do nothing, or are an empty multicall.
    let result = unsafe { raw::multicall(&mut list) };
    report.call("multicall", result);
    report.call("multicall.0_version", list[0].result);
    report.call("multicall.1_unknown", list[1].result);
    report.call("multicall.2_nested", list[2].result);
    report.call("multicall.3_version", list[3].result);
    report.call("multicall.bad_pointer", call(Hypercall::Multicall, [0x1000, 1, 0, 0, 0]));
    report.call("multicall.in_hole", call(Hypercall::Multicall, [HYPERVISOR_START, 1, 0, 0, 0]));
    report.call("multicall.empty_bad_pointer", call(Hypercall::Multicall, [0x1000, 0, 0, 0, 0]));
    let wide = 0x0100_0000_0000_0000u64;
    report.call("multicall.huge_count", call(Hypercall::Multicall, [0x1000, wide, 0, 0, 0]));
}
