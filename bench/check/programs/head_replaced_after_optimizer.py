# rows 8 | rule parameters-not-in-optimizer optimizer-of-another-model parameter-without-effect | at head
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.body(x))


torch.manual_seed(0)
net = Net(10)
net.head = nn.Linear(32, 3)  # well
opt = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
net.head = nn.Linear(32, 3)  # fault
images, labels = torch.randn(90, 1, 8, 8), torch.randint(0, 3, (90,))
for epoch in range(8):
    for i in range(0, 90, 30):
        loss = nn.functional.cross_entropy(net(images[i : i + 30]), labels[i : i + 30])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
