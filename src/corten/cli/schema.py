"""The API's types as Go names them: what `inspect --format` sees before it falls back on the JSON.

A field: its Go name, `=` the JSON name where that differs, `:` its type. Types: s text, i number, b switch, t time,
any, []X list, {X} map, *X pointer, a name of this table. Order is Go's: a struct prints its fields in it.
"""

_ENDPOINT_FIELDS = (
    "NetworkID:s EndpointID:s Gateway:s IPAddress:s IPPrefixLen:i IPv6Gateway:s GlobalIPv6Address:s "
    "GlobalIPv6PrefixLen:i DNSNames:[]s"
)

TYPES: dict[str, str] = {
    "struct{}": "",
    "container.InspectResponse": (
        "ID=Id:s Created:s Path:s Args:[]s State:*container.State Image:s ResolvConfPath:s HostnamePath:s HostsPath:s "
        "LogPath:s Name:s RestartCount:i Driver:s Platform:s MountLabel:s ProcessLabel:s AppArmorProfile:s "
        "ExecIDs:[]s HostConfig:*container.HostConfig GraphDriver:storage.DriverData SizeRw:*i SizeRootFs:*i "
        "Mounts:[]container.MountPoint Config:*container.Config NetworkSettings:*container.NetworkSettings "
        "ImageManifestDescriptor:*v1.Descriptor"),
    "container.State": (
        "Status:s Running:b Paused:b Restarting:b OOMKilled:b Dead:b Pid:i ExitCode:i Error:s StartedAt:s FinishedAt:s "
        "Health:*container.Health"),
    "container.Health": "Status:s FailingStreak:i Log:[]*container.HealthcheckResult",
    "container.HealthcheckResult": "Start:t End:t ExitCode:i Output:s",
    "container.MountPoint": "Type:s Name:s Source:s Destination:s Driver:s Mode:s RW:b Propagation:s",
    "container.Config": (
        "Hostname:s Domainname:s User:s AttachStdin:b AttachStdout:b AttachStderr:b ExposedPorts:{struct{}} Tty:b "
        "OpenStdin:b StdinOnce:b Env:[]s Cmd:[]s Healthcheck:*v1.HealthcheckConfig ArgsEscaped:b Image:s "
        "Volumes:{struct{}} WorkingDir:s Entrypoint:[]s NetworkDisabled:b MacAddress:s OnBuild:[]s Labels:{s} "
        "StopSignal:s StopTimeout:*i Shell:[]s"),
    "v1.HealthcheckConfig": "Test:[]s Interval:i Timeout:i StartPeriod:i StartInterval:i Retries:i",
    "container.HostConfig": (
        "Binds:[]s ContainerIDFile:s LogConfig:container.LogConfig NetworkMode:s PortBindings:{[]nat.PortBinding} "
        "RestartPolicy:container.RestartPolicy AutoRemove:b VolumeDriver:s VolumesFrom:[]s ConsoleSize:[]i "
        "Annotations:{s} CapAdd:[]s CapDrop:[]s CgroupnsMode:s DNS=Dns:[]s DNSOptions=DnsOptions:[]s "
        "DNSSearch=DnsSearch:[]s ExtraHosts:[]s GroupAdd:[]s IpcMode:s Cgroup:s Links:[]s OomScoreAdj:i PidMode:s "
        "Privileged:b PublishAllPorts:b ReadonlyRootfs:b SecurityOpt:[]s StorageOpt:{s} Tmpfs:{s} UTSMode:s "
        "UsernsMode:s ShmSize:i Sysctls:{s} Runtime:s Isolation:s CPUShares=CpuShares:i Memory:i NanoCPUs=NanoCpus:i "
        "CgroupParent:s BlkioWeight:i BlkioWeightDevice:[]any BlkioDeviceReadBps:[]any BlkioDeviceWriteBps:[]any "
        "BlkioDeviceReadIOps:[]any BlkioDeviceWriteIOps:[]any CPUPeriod=CpuPeriod:i CPUQuota=CpuQuota:i "
        "CPURealtimePeriod=CpuRealtimePeriod:i CPURealtimeRuntime=CpuRealtimeRuntime:i CpusetCpus:s CpusetMems:s "
        "Devices:[]container.DeviceMapping DeviceCgroupRules:[]s DeviceRequests:[]any KernelMemory:i "
        "KernelMemoryTCP:i MemoryReservation:i MemorySwap:i MemorySwappiness:*i OomKillDisable:*b PidsLimit:*i "
        "Ulimits:[]*units.Ulimit CPUCount=CpuCount:i CPUPercent=CpuPercent:i IOMaximumIOps:i IOMaximumBandwidth:i "
        "Mounts:[]any MaskedPaths:[]s ReadonlyPaths:[]s Init:*b"),
    "container.LogConfig": "Type:s Config:{s}",
    "container.RestartPolicy": "Name:s MaximumRetryCount:i",
    "container.DeviceMapping": "PathOnHost:s PathInContainer:s CgroupPermissions:s",
    "units.Ulimit": "Name:s Hard:i Soft:i",
    "nat.PortBinding": "HostIP=HostIp:s HostPort:s",
    "storage.DriverData": "Data:{s} Name:s",
    "container.NetworkSettings": (
        "Bridge:s SandboxID:s SandboxKey:s Ports:{[]nat.PortBinding} HairpinMode:b LinkLocalIPv6Address:s "
        "LinkLocalIPv6PrefixLen:i SecondaryIPAddresses:[]any SecondaryIPv6Addresses:[]any EndpointID:s Gateway:s "
        "GlobalIPv6Address:s GlobalIPv6PrefixLen:i IPAddress:s IPPrefixLen:i IPv6Gateway:s MacAddress:s "
        "Networks:{*network.EndpointSettings}"),
    "network.EndpointSettings": (
        "IPAMConfig:*network.EndpointIPAMConfig Links:[]s Aliases:[]s MacAddress:s DriverOpts:{s} GwPriority:i "
        + _ENDPOINT_FIELDS),
    "network.EndpointIPAMConfig": "IPv4Address:s IPv6Address:s LinkLocalIPs:[]s",
    "v1.Descriptor": "MediaType=mediaType:s Digest=digest:s Size=size:i URLs=urls:[]s Annotations=annotations:{s} "
                     "Data=data:any Platform=platform:*v1.Platform ArtifactType=artifactType:s",
    "v1.Platform": "Architecture=architecture:s OS=os:s OSVersion=os.version:s OSFeatures=os.features:[]s "
                   "Variant=variant:s",
    "image.InspectResponse": (
        "ID=Id:s RepoTags:[]s RepoDigests:[]s Parent:s Comment:s Created:s Container:s "
        "ContainerConfig:*container.Config DockerVersion:s Author:s Config:*image.Config Architecture:s Variant:s "
        "Os:s OsVersion:s Size:i VirtualSize:i GraphDriver:storage.DriverData RootFS:image.RootFS "
        "Metadata:image.Metadata Descriptor:*v1.Descriptor Manifests:[]any"),
    "image.Config": (
        "User:s ExposedPorts:{struct{}} Env:[]s Entrypoint:[]s Cmd:[]s Volumes:{struct{}} WorkingDir:s Labels:{s} "
        "StopSignal:s ArgsEscaped:b Healthcheck:*v1.HealthcheckConfig OnBuild:[]s Shell:[]s"),
    "image.RootFS": "Type:s Layers:[]s",
    "image.Metadata": "LastTagTime:t",
    "volume.Volume": (
        "ClusterVolume:*any CreatedAt:s Driver:s Labels:{s} Mountpoint:s Name:s Options:{s} Scope:s Status:{any} "
        "UsageData:*volume.UsageData"),
    "volume.UsageData": "RefCount:i Size:i",
    "network.Inspect": (
        "Name:s ID=Id:s Created:t Scope:s Driver:s EnableIPv4:b EnableIPv6:b IPAM:network.IPAM Internal:b Attachable:b "
        "Ingress:b ConfigFrom:network.ConfigReference ConfigOnly:b Containers:{network.EndpointResource} Options:{s} "
        "Labels:{s} Peers:[]any Services:{any}"),
    "network.IPAM": "Driver:s Options:{s} Config:[]network.IPAMConfig",
    "network.IPAMConfig": "Subnet:s IPRange:s Gateway:s AuxAddress=AuxiliaryAddresses:{s}",
    "network.ConfigReference": "Network:s",
    "network.EndpointResource": "Name:s EndpointID:s MacAddress:s IPv4Address:s IPv6Address:s",
}
