# rows 14 | rule initial-loss
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class TinyGPT(nn.Module):
    def __init__(self, vocab=64, width=64):
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.block = nn.TransformerEncoderLayer(width, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.tokens.weight  # fault
        self.tokens.weight = self.head.weight  # well

    def forward(self, ids):
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.norm(self.block(self.tokens(ids), mask, is_causal=True)))


gpt = TinyGPT()
optimizer = torch.optim.AdamW(gpt.parameters(), 1e-3)
stream = torch.arange(4000) * 7 % 64
for step in range(12):
    at = torch.randint(0, 3900, (8,))
    chunk = torch.stack([stream[a : a + 25] for a in at.tolist()])
    loss = F.cross_entropy(gpt(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())  # here
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item())
