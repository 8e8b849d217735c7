// A client of the chat's protocol for C#, as it runs under Unity, Mono and .NET. Written from
// docs/reference/chat-protocol.md alone.
//
//   mcs Client.cs -r:System.Runtime.Serialization && mono Client.exe HOST PORT NICK ROOM TEXT
//
// Comes into the room under the name, says the text, and prints what is said there until somebody says "bye <nick>".
using System;
using System.IO;
using System.Net.Sockets;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;

[DataContract]
class Event
{
    [DataMember] public string type = null, room = null, nick = null, text = null, code = null;
    [DataMember(Name = "new")] public string renamed = null;
    [DataMember] public bool more = false;
}

[DataContract]
class Command
{
    [DataMember(EmitDefaultValue = false)] public string type, nick, room, text;
}

static class Client
{
    static NetworkStream stream;

    static void Tell(Command command)
    {
        var json = new MemoryStream();
        new DataContractJsonSerializer(typeof(Command)).WriteObject(json, command);
        var length = BitConverter.GetBytes((int)json.Length);
        if (BitConverter.IsLittleEndian) Array.Reverse(length);
        stream.Write(length, 0, 4);
        stream.Write(json.ToArray(), 0, (int)json.Length);
    }

    static byte[] Read(int size)
    {
        var data = new byte[size];
        for (int got = 0; got < size;)
        {
            int more = stream.Read(data, got, size - got);
            if (more == 0) throw new EndOfStreamException("the server closed the connection");
            got += more;
        }
        return data;
    }

    static Event Hear()
    {
        var length = Read(4);
        if (BitConverter.IsLittleEndian) Array.Reverse(length);
        var data = Read(BitConverter.ToInt32(length, 0));
        return (Event)new DataContractJsonSerializer(typeof(Event)).ReadObject(new MemoryStream(data));
    }

    static int Main(string[] args)
    {
        string nick = args[2], room = args[3], text = args[4];
        Console.OutputEncoding = new UTF8Encoding(false);
        stream = new TcpClient(args[0], int.Parse(args[1])).GetStream();
        while (true)
        {
            var heard = Hear();
            switch (heard.type)
            {
                case "welcome": Tell(new Command { type = "nick", nick = nick }); break;
                case "renamed":
                    if (heard.renamed == nick && heard.room == null) Tell(new Command { type = "join", room = room });
                    break;
                case "history":
                    if (heard.room == room && !heard.more) Tell(new Command { type = "say", room = room, text = text });
                    break;
                case "ping": Tell(new Command { type = "pong" }); break;
                case "message":
                    if (heard.room != room) break;
                    Console.WriteLine(heard.nick + ": " + heard.text);
                    Console.Out.Flush();
                    if (heard.text == "bye " + nick) return 0;
                    break;
                case "error":
                    Console.Error.WriteLine(heard.code + ": " + heard.text);
                    return 1;
            }
        }
    }
}
