#!/usr/bin/perl
# A phone of Net::SIP (libnet-sip-perl): registers with digest, answers at once, obeys lines on its input.
#   phone.pl HOST:PORT USER PASSWORD DOMAIN OWN_HOST:PORT
#   call URI | hold | resume | hangup | unregister | quit
# It says, one a line: registered, refused, incoming, ringing CODE, up, failed CODE, changed ADDRESS DIRECTION, held,
# resumed, over (the other side hung up), done (we did), gone.
use strict;
use warnings;
use Net::SIP;
use Net::SIP::Dispatcher::Eventloop;

my ( $server, $user, $password, $domain, $own ) = @ARGV;
$| = 1;
sub say_line { print join( ' ', @_ ), "\n" }

my $ua = Net::SIP::Simple->new(
    outgoing_proxy => $server,
    leg            => "sip:$own",
    registrar      => $server,
    domain         => $domain,
    from           => $user,
    auth           => [ $user, $password ],
);
my ( $call, $end );

# What the other side's description says now: its address, and its direction where it names one.
sub described {
    my $sdp = shift or return ( '-', 'none' );
    my ($media) = $sdp->get_media;
    my ($direction) = $sdp->as_string =~ /^a=(sendrecv|sendonly|recvonly|inactive)\r?$/m;
    return ( $media->{addr}, $direction || 'sendrecv' );
}

my %heard = (
    recv_bye   => sub { say_line('over'); undef $call },
    init_media => $ua->rtp('media_recv_echo'),
    cb_invite  => sub {
        my ( $self, $request ) = @_;
        say_line( 'changed', described( $request->sdp_body ) ) if $call;
        return;
    },
);
$ua->listen(
    %heard,
    cb_create      => sub { say_line('incoming'); return 1 },
    cb_established => sub { my ( $status, $self ) = @_; say_line('up') if !$call; $call = $self },
);

sub dial {
    my $to = shift;
    $call = $ua->invite(
        $to, %heard,
        cb_preliminary => sub { my ( $self, $code ) = @_; say_line( 'ringing', $code ) },
        cb_final       => sub {
            my ( $status, $self, %info ) = @_;
            say_line( $status eq 'OK' ? 'up' : ( 'failed', $info{code} || 0 ) );
        },
    );
}

sub change {
    my ( $word, %how ) = @_;
    $call->reinvite( %how, cb_final => sub { my ( $status, $self, %info ) = @_; say_line( $status eq 'OK' ? $word : ( 'failed', $info{code} || 0 ) ) } );
}

my %obey = (
    call       => \&dial,
    hold       => sub { change( 'held', call_on_hold => 1 ) },
    resume     => sub { change( 'resumed', clear_sdp => 1 ) },
    hangup     => sub { $call->bye( cb_final => sub { say_line('done'); undef $call } ) },
    unregister => sub { $ua->register( expires => 0, cb_final => sub { say_line('gone') } ) },
    quit       => sub { $end = 1 },
);
my $buffer = '';
$ua->{dispatcher}{eventloop}->addFD(
    \*STDIN, EV_READ,
    sub {
        my $read = sysread( STDIN, $buffer, 4096, length $buffer );
        $end = 1 if !$read;
        while ( $buffer =~ s/^(.*)\n// ) {
            my ( $word, @given ) = split ' ', $1;
            my $act = $obey{$word} or die "unknown: $word";
            $act->(@given);
        }
    }
);

my $expires = $ua->register( expires => 600 );
say_line( $expires ? 'registered' : 'refused' );
$ua->loop( \$end );
