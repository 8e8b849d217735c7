//! The contract of a driver, in cases that each run over each back end.
//!
//! The table at the end is the whole suite: `cargo test --test driver_contract epoll::` runs a row of it,
//! `cargo test --test driver_contract resets` a column. Real sockets on loopback; no case sleeps to be in time.
//!
//! A back end that this kernel or container forbids is skipped with a line that says so;
//! with `WIREWAY_NO_SKIP=1` it fails.

#[path = "driver_contract/accepting.rs"]
mod accepting;
#[path = "driver_contract/alone.rs"]
mod alone;
#[path = "driver_contract/connecting.rs"]
mod connecting;
#[path = "driver_contract/detaching.rs"]
mod detaching;
#[path = "driver_contract/ending.rs"]
mod ending;
#[path = "driver_contract/harness.rs"]
mod harness;
#[path = "driver_contract/load.rs"]
mod load;
#[path = "driver_contract/receiving.rs"]
mod receiving;
#[path = "driver_contract/sending.rs"]
mod sending;
#[path = "driver_contract/system.rs"]
mod system;
#[path = "driver_contract/waiting.rs"]
mod waiting;
#[path = "driver_contract/watching.rs"]
mod watching;

macro_rules! row {
    ($row:ident, $backend:ident: $($file:ident { $($case:ident)* })*) => {
        mod $row {
            $(mod $file {
                $(#[test]
                fn $case() {
                    let name = concat!(stringify!($row), "::", stringify!($file), "::", stringify!($case));
                    crate::harness::run(wireway_core::driver::Backend::$backend, name, crate::$file::$case);
                })*
            })*
        }
    };
}

macro_rules! contract {
    ($($cases:tt)*) => {
        row!(io_uring, IoUring: $($cases)*);
        row!(epoll, Epoll: $($cases)*);
        row!(poll, Poll: $($cases)*);
        row!(select, Select: $($cases)*);
        row!(sigio, Sigio: $($cases)*);
    };
}

contract! {
    sending {
        small_sends_arrive
        partial_sends_keep_order_and_content
        many_pieces_leave_in_order
        both_directions_at_once
        a_queue_in_flight_is_dropped_after_detach
        one_send_is_pending_at_a_time
        withdrawn_in_flight
    }
    receiving {
        pieces_arrive_in_order
        a_second_receive_changes_nothing
        a_paused_receive_delivers_nothing
        pausing_inside_a_completion_loses_nothing
        pausing_with_the_end_behind
        withdrawn_amid_data
        withdrawn_at_the_end
        withdrawn_beside_others
        large_messages_arrive_whole
        large_and_small_take_turns
        large_messages_in_the_sinks_room
        urgent_data_does_not_stall_a_stream
        a_stream_that_another_driver_has
    }
    ending {
        end_of_stream_comes_once
        data_and_end_at_once
        we_send_after_the_peers_end
        we_receive_after_our_end
        both_ends_shut_down
        sending_after_our_end_fails
        reset_before_data
        reset_amid_receive
        reset_with_a_send_pending
        reset_while_paused
        reset_by_unread_data
    }
    connecting {
        connects_and_talks
        connects_and_receives_what_waits
        refused
        unreachable_is_a_completion
        times_out
        cancelled_in_flight
        detached_in_flight
        reset_by_a_closing_listener
        a_socket_that_never_connected
    }
    accepting {
        accepts_all_that_wait
        stopped
        accepted_sockets_are_ours_alone
        cancelled_in_flight
        cancelled_inside_a_completion
        detached_inside_a_completion
        a_connection_reset_in_the_backlog
        a_closed_listener_refuses
        not_a_listener
        several_listeners
        a_listener_shared_by_two_drivers
    }
    detaching {
        nothing_comes_after_detach
        unknown_tokens
        others_of_the_same_batch
        itself_inside_a_completion
        attached_inside_a_completion
        reused_after_keep
        reused_after_close
        reused_within_a_batch
        close_reaches_the_peer
        close_after_the_last_send
        close_with_a_send_pending
        the_descriptor_is_left_as_it_was
        a_dropped_driver_leaves_nothing
        a_number_that_another_driver_uses_now
        descriptors_over_the_limit_are_refused
    }
    watching {
        ready_until_drained
        interest_changes
        none_ends_it
        both_directions
        writable_when_drained
        every_kind_of_file
        a_hang_up_is_ready
        changed_inside_a_completion
        duplicates_of_one_file
        closed_behind_our_back
        a_stream_of_somebody_else
    }
    waiting {
        never_before_the_timeout
        zero_does_not_sleep
        woken_from_another_thread
        many_wakes_are_one
        a_wake_before_wait_is_kept
        woken_inside_a_completion
        wakes_do_not_hide_events
        another_thread_takes_over
        another_thread_takes_over_what_was_settled
        two_drivers_in_one_thread
    }
    load {
        a_flood_does_not_starve_others
        a_flood_of_connections_does_not_starve_others
        many_large_transfers_at_once
        echo_inside_completions
    }
    alone {
        interrupted_by_signals
        a_closed_driver_holds_nothing
        no_descriptor_left_while_accepting
        a_full_signal_queue_loses_nothing
        a_forked_child_does_not_disturb
        ten_thousand_connections_leave_nothing
    }
}
